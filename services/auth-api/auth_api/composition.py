"""The composition root: from settings to a running service; the only place that knows every class."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from auth_api.app import create_app
from auth_api.errors import ManualKeysError
from auth_api.keyring import Keyring
from auth_api.limits import parse_limits
from auth_api.login.attempts import Attempts
from auth_api.login.background import Background
from auth_api.login.logins import Logins, LoginSettings
from auth_api.login.mail_results import MailResults
from auth_api.metrics import Metrics
from auth_api.oidc.authorization_request import AuthorizationPolicy
from auth_api.oidc.discovery_document import discovery_document
from auth_api.oidc.keys import manual_keys
from auth_api.pages import Locale, Pages
from auth_api.routes.answers import Answers
from auth_api.routes.authorize import Authorize
from auth_api.routes.confirm import Confirm
from auth_api.routes.documents import Documents
from auth_api.routes.failures import Failures
from auth_api.routes.requests import LoginCookie
from auth_api.routes.surroundings import Surroundings
from auth_api.routes.tokens import Tokens
from auth_api.routes.visitors import Visitors
from auth_api.settings import SERVICE, Settings
from service_kit.internal_port import Check
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreError
from shared_store.key_sets import KeySets
from shared_store.mail_queue import MailQueue
from shared_store.notices import Notices
from shared_store.sealing import Sealer
from shared_store.signing_keys import SigningAlg, SigningKey, UnreadableBlock, parse_pem
from shared_store.store import Store

log = structlog.get_logger(__name__)

DOCUMENTATION = "https://portier.github.io"
TELL_EVERY = 5.0  # seconds between lines that say that Redis is away


@dataclass(frozen=True, slots=True)
class Service:
    """What runs: the app to serve, what readiness asks, and the metrics."""

    app: ASGIApp
    checks: Sequence[Check]
    registry: CollectorRegistry


@contextlib.asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Service]:
    """Put the service together and keep its background tasks running while the block runs.

    Raises:
        ManualKeysError: keyfiles or keytext can't be used.
        InvalidLimitError: a limit can't be read.
    """
    registry = CollectorRegistry()
    metrics = Metrics(registry, uncounted=settings.uncounted_emails)
    pages = Pages(data_dir=settings.data_dir)
    attempts = Attempts(
        parse_limits(settings.limits), settings.wrong_codes_per_address, settings.wrong_codes_per_network
    )
    manual = _manual_keys(settings)
    async with Store(settings.redis_url.get_secret_value(), connection_options(settings)) as store:
        notices = Notices(store)
        queue = MailQueue()
        results = MailResults(store, queue, notices)
        sealer = Sealer([secret.get_secret_value() for secret in settings.key_encryption_key])
        keyring = Keyring(store, KeySets(sealer), notices, algs=settings.signing_algs, manual=manual)
        async with Background() as background, results.running(), _running(notices, keyring, store, metrics):
            logins = Logins(
                store=store,
                queue=queue,
                results=results,
                keyring=keyring,
                attempts=attempts,
                background=background,
                settings=_login_settings(settings),
            )
            app = _app(settings, pages=pages, store=store, keyring=keyring, logins=logins, metrics=metrics)
            checks = (Check("redis", store.ping), Check("signing_keys", _key_check(keyring)))
            yield Service(app, checks, registry)


def connection_options(settings: Settings) -> ConnectionOptions:
    """Say how to connect to Redis."""
    return ConnectionOptions(
        timeout=settings.redis_timeout,
        max_connections=settings.redis_max_connections,
        ca_file=settings.redis_ca_file,
        client_cert=settings.redis_client_cert,
        client_key=settings.redis_client_key,
        client_name=SERVICE,
    )


@contextlib.asynccontextmanager
async def _running(notices: Notices, keyring: Keyring, store: Store, metrics: Metrics) -> AsyncIterator[None]:
    """Run the tasks that go on beside the requests; one that ends takes the service down, which is how it is seen."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (notices.run(), keyring.follow(), _watch_store(store, metrics))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _watch_store(store: Store, metrics: Metrics) -> None:
    """Say so, again and again, while Redis is away; and that it is back."""
    was_up = True
    while True:
        try:
            await store.ping()
        except StoreError as error:
            log.warning("store_away", store=str(store.url), error=str(error))
            is_up = False
        else:
            is_up = True
        if is_up and not was_up:
            log.info("store_back", store=str(store.url))
        metrics.store_up.set(is_up)
        was_up = is_up
        await asyncio.sleep(TELL_EVERY)


def _app(
    settings: Settings, *, pages: Pages, store: Store, keyring: Keyring, logins: Logins, metrics: Metrics
) -> ASGIApp:
    https = settings.public_url.startswith("https://")
    answers = Answers(pages, settings.public_url, settings.csp)
    visitors = Visitors(settings.trusted_proxies)
    cookie = _cookie(settings, https=https)
    app = create_app(
        authorize=Authorize(
            answers=answers,
            logins=logins,
            policy=AuthorizationPolicy(settings.allowed_origins, settings.signing_algs),
            visitors=visitors,
            cookie=cookie,
            metrics=metrics,
            resend_delay=settings.resend_delay,
        ),
        confirm=Confirm(answers=answers, logins=logins, visitors=visitors, cookie=cookie, metrics=metrics),
        tokens=Tokens(store=store, keyring=keyring, issuer=settings.public_url, token_ttl=settings.token_ttl),
        documents=Documents(
            answers=answers,
            pages=pages,
            keyring=keyring,
            metrics=metrics,
            discovery=_discovery(settings),
            discovery_ttl=settings.discovery_ttl,
            keys_ttl=settings.keys_ttl,
            static_ttl=settings.static_ttl,
            commit=os.environ.get("HEROKU_SLUG_COMMIT", ""),
        ),
        failures=Failures(answers, count_limited=metrics.auth_limited.inc),
    )
    return Surroundings(
        app,
        metrics=metrics,
        https=https,
        allowed_origins=settings.allowed_origins,
        cors_ttl=settings.cors_ttl,
    )


def _cookie(settings: Settings, *, https: bool) -> LoginCookie | None:
    if settings.device_cookie_ttl < 0:
        return None
    return LoginCookie(secure=https, max_age=settings.device_cookie_ttl or None)


def _discovery(settings: Settings) -> dict[str, object]:
    return discovery_document(
        issuer=settings.public_url,
        signing_algs=settings.signing_algs,
        ui_locales=[locale.value for locale in Locale],
        service_documentation=DOCUMENTATION,
    )


def _login_settings(settings: Settings) -> LoginSettings:
    return LoginSettings(
        public_url=settings.public_url,
        session_ttl=settings.session_ttl,
        auth_code_ttl=settings.auth_code_ttl,
        token_ttl=settings.token_ttl,
        mail_wait=settings.mail_wait,
        mail_queue_max=settings.mail_queue_max,
        resend_delay=settings.resend_delay,
    )


def _manual_keys(settings: Settings) -> dict[SigningAlg, tuple[SigningKey, ...]] | None:
    """Read the configured keys, None where there are none configured: then key-rotator's are used."""
    texts = {f"keyfiles: {name}": _read(name) for name in settings.keyfiles}
    if settings.keytext is not None:
        texts["keytext"] = settings.keytext.get_secret_value()
    if not texts:
        return None
    keys: list[SigningKey] = []
    for source, text in texts.items():
        for block in parse_pem(text):
            if isinstance(block, UnreadableBlock):
                log.warning("key_not_readable", source=source, block=block.position, reason=block.reason)
            else:
                keys.append(block)
    by_alg = manual_keys(keys)
    for alg in settings.signing_algs:
        if alg not in by_alg:
            raise ManualKeysError(f"keyfiles and keytext hold no {alg} key: add one, or take {alg} out of signing_algs")
    return by_alg


def _read(name: str) -> str:
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("keyfile_not_readable", file=name, error=str(error))
        return ""


def _key_check(keyring: Keyring) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        keyring.check_ready()

    return check

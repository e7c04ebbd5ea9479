"""The composition root: from settings to a running service; the only place that knows every class."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from auth_api import parts
from auth_api.addresses import parse_address
from auth_api.app import create_app
from auth_api.bounces.bounces import Bounces
from auth_api.discovery.cache import AnswerCache
from auth_api.discovery.flights import Flights
from auth_api.discovery.providers import Provider, Providers
from auth_api.discovery.safe_http import SafeHttp
from auth_api.keyring import Keyring
from auth_api.login.attempts import Attempts
from auth_api.login.background import Background
from auth_api.login.completion import Completion
from auth_api.login.federation import Federation
from auth_api.login.logins import Logins
from auth_api.login.mail_results import MailResults
from auth_api.login.paths import Paths
from auth_api.login.redemption import Redemption
from auth_api.metrics import Metrics
from auth_api.oidc.authorization_request import AuthorizationPolicy
from auth_api.pages import Pages
from auth_api.routes.answers import Answers
from auth_api.routes.authorize import Authorize
from auth_api.routes.callback import Callback
from auth_api.routes.confirm import Confirm
from auth_api.routes.documents import Documents
from auth_api.routes.failures import Failures
from auth_api.routes.surroundings import Surroundings
from auth_api.routes.tokens import Tokens
from auth_api.routes.visitors import Visitors
from auth_api.routes.webhooks import Webhooks
from auth_api.settings import SERVICE, Settings
from service_kit.internal_port import Check
from shared_store.errors import StoreError
from shared_store.examination import Examination
from shared_store.key_sets import KeySets
from shared_store.keyspace import UNLOCKED_CHANNEL
from shared_store.locks import Locks
from shared_store.mail_queue import MailQueue
from shared_store.mail_shards import queue_tags
from shared_store.notices import Notices
from shared_store.sealing import Sealer
from shared_store.store import Store

log = structlog.get_logger(__name__)

TELL_EVERY = 5.0  # seconds between lines that say that Redis is away


@dataclass(frozen=True, slots=True)
class Service:
    """What runs: the app to serve, what readiness asks, the metrics, and what to call for every new connection."""

    app: ASGIApp
    checks: Sequence[Check]
    doctor: Callable[[], Mapping[str, object]]
    registry: CollectorRegistry
    count_connection: Callable[[], None]


@contextlib.asynccontextmanager
async def build(settings: Settings, *, http: SafeHttp | None = None) -> AsyncIterator[Service]:
    """Put the service together and keep its background tasks running while the block runs.

    `http` is how other servers are asked, where that is to be otherwise than in service.
    """
    registry = CollectorRegistry()
    metrics = Metrics(registry, uncounted=[str(parse_address(text)) for text in settings.uncounted_emails])
    async with Store.of(settings, client_name=SERVICE) as store:
        notices = Notices(store)
        queues = [MailQueue(tag) for tag in queue_tags(settings.mail_queue_shards)]
        results = MailResults(store, notices)
        sealer = Sealer([secret.get_secret_value() for secret in settings.key_encryption_key])
        examination = Examination(store, SERVICE)
        manual = settings.configured_keys.by_alg or None
        keyring = Keyring(store, KeySets(sealer), notices, algs=settings.signing_algs, manual=manual)
        async with (
            http or SafeHttp(development=settings.development) as opened,
            Background() as background,
            results.running(),
            _running(notices, keyring, store, metrics, examination),
            Flights[str]() as flights,
            Flights[Provider | None]() as searches,
        ):
            suppressions = parts.suppressions(settings)
            attempts = Attempts(
                store=store, background=background, bounds=parts.bounds(settings), suppressions=suppressions
            )
            completion = Completion(
                store=store,
                keyring=keyring,
                background=background,
                issuer=settings.public_url,
                token_ttl=settings.token_ttl,
                auth_code_ttl=settings.auth_code_ttl,
            )
            logins = Logins(
                store=store,
                queues=queues,
                results=results,
                keyring=keyring,
                completion=completion,
                attempts=attempts,
                settings=parts.login_settings(settings),
            )
            answers = AnswerCache(store, Locks(store, notices), flights)
            providers = Providers(
                http=opened,
                answers=answers,
                searches=searches,
                metrics=metrics,
                settings=parts.discovery_settings(settings),
            )
            app = _app(
                settings,
                pages=settings.pages,
                store=store,
                keyring=keyring,
                logins=logins,
                paths=Paths(
                    attempts=attempts,
                    rules=parts.domain_rules(settings, answers, metrics),
                    providers=providers,
                    metrics=metrics,
                ),
                federation=Federation(
                    store=store,
                    keyring=keyring,
                    completion=completion,
                    providers=providers,
                    public_url=settings.public_url,
                    session_ttl=settings.session_ttl,
                ),
                bounces=Bounces(
                    store=store,
                    suppressions=suppressions,
                    providers=parts.webhook_providers(settings),
                    metrics=metrics,
                    now=keyring.now,
                ),
                metrics=metrics,
            )
            checks = (Check("redis", store.check_ready), Check("signing_keys", _key_check(keyring)))
            yield Service(app, checks, examination.summary, registry, count_connection=metrics.http_connections.inc)


@contextlib.asynccontextmanager
async def _running(
    notices: Notices, keyring: Keyring, store: Store, metrics: Metrics, examination: Examination
) -> AsyncIterator[None]:
    """Run the tasks that go on beside the requests; one that ends takes the service down, which is how it is seen."""
    # Subscribed from the start: the first who waits for another instance's lock hears of its release at once.
    subscribed = notices.listen(UNLOCKED_CHANNEL)
    async with asyncio.TaskGroup() as group:
        works = (notices.run(), keyring.follow(), _watch_store(store, metrics), examination.run())
        tasks = [group.create_task(work) for work in works]
        try:
            with subscribed:
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
    settings: Settings,
    *,
    pages: Pages,
    store: Store,
    keyring: Keyring,
    logins: Logins,
    paths: Paths,
    federation: Federation,
    bounces: Bounces,
    metrics: Metrics,
) -> ASGIApp:
    https = settings.public_url.startswith("https://")
    answers = Answers(pages, settings.public_url, settings.csp)
    visitors = Visitors(settings.trusted_proxies)
    cookie = parts.login_cookie(settings, https=https)
    app = create_app(
        authorize=Authorize(
            answers=answers,
            logins=logins,
            paths=paths,
            federation=federation,
            policy=AuthorizationPolicy(settings.allowed_origins, settings.signing_algs),
            visitors=visitors,
            cookie=cookie,
            metrics=metrics,
            resend_delay=settings.resend_delay,
        ),
        confirm=Confirm(answers=answers, logins=logins, visitors=visitors, cookie=cookie, metrics=metrics),
        callback=Callback(answers=answers, federation=federation, cookie=cookie, metrics=metrics),
        tokens=Tokens(
            store=store,
            redemption=Redemption(
                store=store, keyring=keyring, issuer=settings.public_url, token_ttl=settings.token_ttl
            ),
        ),
        documents=Documents(
            answers=answers,
            pages=pages,
            keyring=keyring,
            metrics=metrics,
            discovery=parts.discovery(settings),
            discovery_ttl=settings.discovery_ttl,
            keys_ttl=settings.keys_ttl,
            static_ttl=settings.static_ttl,
            commit=os.environ.get("HEROKU_SLUG_COMMIT", ""),
        ),
        webhooks=Webhooks(bounces, settings.trusted_proxies),
        failures=Failures(answers, count_limited=metrics.auth_limited.inc, count_store_error=metrics.store_error),
    )
    return Surroundings(
        app,
        metrics=metrics,
        https=https,
        allowed_origins=settings.allowed_origins,
        cors_ttl=settings.cors_ttl,
    )


def _key_check(keyring: Keyring) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        keyring.check_ready()

    return check

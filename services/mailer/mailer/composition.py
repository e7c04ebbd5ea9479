"""The composition root: from settings to a running mailer; the only place that knows every class."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

import httpx
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from mailer.delivery import Delivery
from mailer.jobs import Tools
from mailer.lease import ServerClock, Slots
from mailer.mails import Sender
from mailer.metrics import Metrics
from mailer.reaper import Reaper, Watch
from mailer.recipients import parse_recipient
from mailer.rendering import Renderer
from mailer.routes import Route, Transport
from mailer.settings import SERVICE, Settings
from mailer.shards import Shards
from mailer.transports.http import open_http_client
from mailer.transports.mailgun import MailgunTransport
from mailer.transports.postmark import PostmarkTransport
from mailer.transports.sendgrid import SendGridTransport
from mailer.transports.sendmail import SendmailTransport
from mailer.transports.ses import SesTransport
from mailer.transports.smtp import SmtpTransport
from mailer.transports.smtp_opening import SmtpOptions
from mailer.transports.webhook import WebhookTransport
from mailer.worker import Worker
from service_kit.internal_port import Check
from service_kit.settings import HostPort
from service_kit.stopping import Stop
from shared_store.batching import Batching
from shared_store.examination import Examination
from shared_store.locks import Locks
from shared_store.notices import Notices
from shared_store.store import Store


@dataclass(frozen=True, slots=True)
class Service:
    """What runs: the workers and what goes on beside them, what readiness asks, and the metrics."""

    shards: Shards
    helpers: Sequence[Callable[[], Coroutine[None, None, None]]]
    checks: Sequence[Check]
    doctor: Callable[[], Mapping[str, object]]
    registry: CollectorRegistry

    async def run(self, stop: Stop) -> None:
        """Send mail until asked to stop, and leave nothing in hand."""
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(helper()) for helper in self.helpers]
            await self.shards.work(stop)
            for task in helpers:
                task.cancel()


@contextlib.asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Service]:
    """Put the mailer together; it is closed when the block ends.

    Raises:
        MailerError: a transport, a template or a catalogue can't be used as configured.
    """
    registry = CollectorRegistry()
    uncounted = [parse_recipient(address).address for address in settings.uncounted_emails]
    metrics = Metrics(registry, uncounted=uncounted)
    clock = ServerClock()
    async with Store.of(settings, client_name=SERVICE) as store, open_transports(settings) as transports:
        delivery = make_delivery(settings, transports, metrics)
        tools = Tools(
            settling=Batching(store),
            renderer=open_renderer(settings),
            delivery=delivery,
            metrics=metrics,
            clock=clock,
            attempt_timeout=settings.send_email_timeout,
        )
        slots = Slots(settings.mail_concurrency)
        shards = Shards(
            settings.mail_queue_shards,
            store=store,
            make_worker=lambda queue: Worker(queue, store, tools, slots),
            metrics=metrics,
        )
        reaper = Reaper(store, Locks(store, Notices(store)), shards.queues, metrics)
        watch = Watch(store, shards.queues, metrics, clock)
        checks = (Check("redis", store.check_ready), Check("lease", _registered(shards.workers)))
        examination = Examination(store, SERVICE)
        helpers = (reaper.run, watch.run, delivery.run, tools.settling.work, examination.run)
        yield Service(shards, helpers, checks, examination.summary, registry)


def open_renderer(settings: Settings) -> Renderer:
    """Compile templates and read catalogues, the operator's own before the shipped ones."""
    sender = Sender.of(settings.from_name, parse_recipient(settings.from_address))
    return Renderer(sender, data_dir=settings.data_dir, signer=settings.dkim_signer)


def make_delivery(settings: Settings, transports: Sequence[Transport], metrics: Metrics) -> Delivery:
    """Put transports in a row, each with its bounds; several servers of one kind have the same, each for itself."""
    concurrency = {limit.transport: limit.count for limit in settings.mail_transport_limits if not limit.seconds}
    rates = {limit.transport: limit.count / limit.seconds for limit in settings.mail_transport_limits if limit.seconds}
    routes = []
    for transport in transports:
        kind = transport.name.partition(" ")[0]
        most = concurrency.get(kind, settings.mail_concurrency)
        routes.append(Route(transport, concurrency=most, metrics=metrics, per_second=rates.get(kind, 0.0)))
    return Delivery(routes)


@contextlib.asynccontextmanager
async def open_transports(settings: Settings) -> AsyncIterator[list[Transport]]:
    """Make the configured transports, the preferred one first, and close them in the end."""
    # Each transport may have that many under way, one waiting in vain for its answers and the next sending.
    async with open_http_client(settings.mail_concurrency * len(settings.transports)) as client:
        transports = [made for name in settings.transports for made in _make(name, settings, client)]
        try:
            yield transports
        finally:
            for transport in transports:
                await transport.aclose()


def _make(name: str, settings: Settings, client: httpx.AsyncClient) -> Sequence[Transport]:
    """The transports of a name: as many as there are servers for SMTP, one for the others."""
    if name == "smtp":
        return [_smtp(settings, server) for server in settings.smtp_server]
    makers: dict[str, Callable[[], Transport]] = {
        "sendmail": lambda: SendmailTransport(settings.sendmail_command or ""),
        "postmark": lambda: PostmarkTransport(
            client, url=settings.postmark_api, token=_secret(settings.postmark_token)
        ),
        "mailgun": lambda: MailgunTransport(
            client,
            url=f"{settings.mailgun_api}/{settings.mailgun_domain}/messages",
            token=_secret(settings.mailgun_token),
        ),
        "sendgrid": lambda: SendGridTransport(
            client, url=settings.sendgrid_api, token=_secret(settings.sendgrid_token)
        ),
        "ses": lambda: SesTransport(
            client,
            url=settings.ses_api or f"https://email.{settings.ses_region}.amazonaws.com",
            token=_secret(settings.ses_secret_access_key),
            key_id=settings.ses_access_key_id or "",
            region=settings.ses_region or "",
        ),
        "webhook": lambda: WebhookTransport(
            client, url=settings.mail_webhook_url or "", token=_secret(settings.mail_webhook_secret)
        ),
    }
    return [makers[name]()]


def _smtp(settings: Settings, server: HostPort) -> SmtpTransport:
    options = SmtpOptions(
        host=server.host,
        port=server.port,
        username=settings.smtp_username,
        password=_secret(settings.smtp_password) or None,
        security=settings.smtp_security,
        ca_file=settings.smtp_ca_file,
        client_cert=settings.smtp_client_cert,
        client_key=settings.smtp_client_key,
    )
    return SmtpTransport(options, name="smtp" if len(settings.smtp_server) == 1 else f"smtp {server}")


def _secret(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def _registered(workers: Sequence[Worker]) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        for worker in workers:
            worker.check_ready()

    return check

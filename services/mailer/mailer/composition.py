"""The composition root: from settings to a running mailer; the only place that knows every class."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry

from mailer.delivery import Delivery
from mailer.housekeeping import Housekeeping
from mailer.messages import Sender
from mailer.metrics import Metrics
from mailer.rendering import Renderer
from mailer.settings import SERVICE, Settings
from mailer.transports.base import Transport
from mailer.transports.configured import transports_of
from mailer.worker import Worker
from service_kit.internal_port import Check
from service_kit.stopping import Stop
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreError
from shared_store.locks import Locks
from shared_store.mail_queue import MailQueue, queue_tags
from shared_store.notices import Notices
from shared_store.store import Store

log = structlog.get_logger(__name__)

TELL_EVERY = 5.0  # seconds between lines that say that Redis is away


@dataclass(frozen=True, slots=True)
class Mailer:
    """What runs: a worker and its housekeeping for every queue, what readiness asks, and the metrics."""

    store: Store
    workers: Sequence[Worker]
    keepers: Sequence[Housekeeping]
    checks: Sequence[Check]
    registry: CollectorRegistry

    async def run(self, stop: Stop) -> None:
        """Work until asked to stop."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(worker.run(stop))
            for keeper in self.keepers:
                group.create_task(keeper.run(stop))
            group.create_task(_watch_store(self.store, stop))


@contextlib.asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Mailer]:
    """Put the mailer together; it is closed when the block ends.

    Raises:
        MailerError: templates or transports can't be used as configured.
    """
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    async with contextlib.AsyncExitStack() as stack:
        transports = transports_of(settings)
        for transport in transports:
            stack.push_async_callback(transport.aclose)
        delivery = delivery_of(settings, transports, metrics)
        store = await stack.enter_async_context(open_store(settings))
        locks = Locks(store, Notices(store))
        queues = [MailQueue(tag) for tag in queue_tags(settings.mail_queue_shards)]
        concurrency = max(1, settings.mail_concurrency // len(queues))
        workers = [
            Worker(store=store, queue=queue, delivery=delivery, metrics=metrics, concurrency=concurrency)
            for queue in queues
        ]
        keepers = [Housekeeping(store=store, queue=queue, locks=locks, metrics=metrics) for queue in queues]
        checks = [Check("redis", store.ping), *(Check("registered", worker.check_registered) for worker in workers)]
        yield Mailer(store, workers, keepers, checks, registry)


def open_store(settings: Settings) -> Store:
    """Connect to Redis as configured; connections are made when they are first used."""
    options = ConnectionOptions(
        timeout=settings.redis_timeout,
        max_connections=settings.redis_max_connections,
        ca_file=settings.redis_ca_file,
        client_cert=settings.redis_client_cert,
        client_key=settings.redis_client_key,
        client_name=SERVICE,
    )
    return Store(settings.redis_url.get_secret_value(), options)


def delivery_of(settings: Settings, transports: Sequence[Transport], metrics: Metrics) -> Delivery:
    """Put together what turns jobs into mails."""
    return Delivery(
        renderer=Renderer(data_dir=settings.data_dir),
        sender=Sender(settings.from_name, settings.from_address),
        transports=transports,
        metrics=metrics,
    )


async def _watch_store(store: Store, stop: Stop) -> None:
    """Say so, again and again, while Redis is away; and that it is back."""
    was_up = True
    while True:
        is_up = True
        try:
            await store.ping()
        except StoreError as error:
            log.warning("store_away", store=str(store.url), error=str(error))
            is_up = False
        if is_up and not was_up:
            log.info("store_back", store=str(store.url))
        was_up = is_up
        if await stop.wait(TELL_EVERY):
            return

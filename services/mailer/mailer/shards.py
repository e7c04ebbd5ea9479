"""The queues that a mailer serves: those of its own settings, and any other in which it sees mail.

auth-api may know a greater number than this mailer, or the number was lowered: no mail may wait where nobody looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mailer.metrics import Metrics
from mailer.worker import Worker
from service_kit.stopping import Stop
from shared_store.errors import StoreError
from shared_store.mail_queue import MailQueue
from shared_store.mail_shards import MOST_SHARDS, queue_tags, tags_with
from shared_store.store import Store

LOOK_EVERY = 2.0  # seconds between looks for mail in other queues

log = structlog.stdlib.get_logger()


class Shards:
    """One worker a queue. Queues are never left again; a mailer that is restarted begins with its own."""

    def __init__(
        self, number: int, *, store: Store, make_worker: Callable[[MailQueue], Worker], metrics: Metrics
    ) -> None:
        self._store = store
        self._make_worker = make_worker
        self._metrics = metrics
        self.queues = {tag: MailQueue(tag) for tag in queue_tags(number)}
        self.workers = [make_worker(queue) for queue in self.queues.values()]

    async def work(self, stop: Stop) -> None:
        """Let all workers work until a stop is asked for."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(worker.run(stop))
            while not await stop.wait(LOOK_EVERY):
                for tag in await self._others_with_mail():
                    group.create_task(self._adopt(tag).run(stop))

    async def _others_with_mail(self) -> list[str]:
        others = [tag for tag in queue_tags(MOST_SHARDS) if tag not in self.queues]
        try:
            return await self._store.run(tags_with(others))
        except StoreError as error:
            log.debug("looking_for_mail_failed", error=str(error))
            return []

    def _adopt(self, tag: str) -> Worker:
        log.warning(
            "mail_in_other_queue", queue=tag,
            hint="it is served; give auth-api and all mailers the same mail_queue_shards",
        )  # fmt: skip
        queue = MailQueue(tag)
        worker = self._make_worker(queue)
        self.queues[tag] = queue
        self.workers.append(worker)
        self._metrics.queues_adopted.inc()
        return worker

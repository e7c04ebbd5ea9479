"""What keeps the queue moving whoever dies: due jobs become ready, dead workers' jobs are taken over, depth is told."""

import asyncio

import structlog

from mailer.metrics import Metrics
from service_kit.stopping import Stop
from shared_store.errors import StoreError
from shared_store.locks import Locks
from shared_store.mail_queue import MailQueue
from shared_store.store import Store

log = structlog.get_logger(__name__)

EVERY = 0.5  # seconds between rounds: how late a delayed job may become ready
DEPTH_EVERY = 10  # rounds
REAPER_LOCK = 10.0  # seconds


class Housekeeping:
    """Runs beside the worker in every mailer; any number of them do no harm."""

    def __init__(self, *, store: Store, queue: MailQueue, locks: Locks, metrics: Metrics) -> None:
        self._store = store
        self._queue = queue
        self._locks = locks
        self._metrics = metrics

    async def run(self, stop: Stop) -> None:
        """Go round until asked to stop."""
        number = 0
        while not await stop.wait(EVERY):
            number += 1
            try:
                await self._round(number)
            except StoreError as error:
                log.debug("housekeeping_interrupted", error=str(error))
                await stop.wait(EVERY)

    async def _round(self, number: int) -> None:
        _, expired = await self._store.run_all(self._queue.promote(), self._queue.expired_workers())
        if expired:
            await self._reap(expired)
        if number % DEPTH_EVERY == 1:
            self._metrics.depth(await self._queue.depth(self._store))

    async def _reap(self, workers: list[str]) -> None:
        async with self._locks.holding("mail-reaper", ttl=REAPER_LOCK) as lock:
            if lock is None:
                return
            for worker in workers:
                moved = await self._store.run(self._queue.reap(worker))
                if moved >= 0:
                    self._metrics.taken_over(moved)
                    log.warning("worker_reaped", worker=worker, jobs=moved)
                await asyncio.sleep(0)

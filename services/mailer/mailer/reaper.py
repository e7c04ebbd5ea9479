"""Looks after all queues: takes over from workers whose lease has ended, measures the queues, tells of an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from mailer.lease import RENEW, ServerClock
from mailer.metrics import Metrics
from shared_store.errors import StoreError
from shared_store.locks import Locks
from shared_store.mail_jobs import glance, is_time
from shared_store.mail_mending import mend
from shared_store.mail_queue import MailQueue
from shared_store.store import Store

REAP_EVERY = 1.5
LOOK_BACK_EVERY = 15.0  # seconds between looks at the hands of workers whose lease is long ended
MEND_EVERY = 5.0
MOST_OF_NAME = 80  # characters of a worker's name that are told, lest junk fill the log
LOCK_TTL = 10.0
TELL_EVERY = 5.0
# After an outage everyone's lease may have ended: whoever lives gets this long to renew it.
GRACE = 2 * RENEW

log = structlog.stdlib.get_logger()


class Reaper:
    """Puts back what dead workers had in hand, one reaper at a time over all mailers. `queues` may grow."""

    def __init__(self, store: Store, locks: Locks, queues: Mapping[str, MailQueue], metrics: Metrics) -> None:
        self._store = store
        self._locks = locks
        self._queues = queues
        self._metrics = metrics
        self._store_away = time.monotonic() - GRACE
        self._looked_back = 0.0
        self._mended = 0.0

    async def run(self) -> None:
        """Reap, and look for junk, until cancelled."""
        while True:
            try:
                await self._mend()
                await self._round()
            except StoreError:
                self._store_away = time.monotonic()
            await asyncio.sleep(REAP_EVERY)

    async def _mend(self) -> None:
        """Look now and then whether something else lies where a queue should."""
        if time.monotonic() - self._mended < MEND_EVERY:
            return
        for tag in tuple(self._queues):
            mended = await mend(self._store, tag)
            if mended.keys:
                log.error(
                    "mail_queue_mended", keys=mended.keys, jobs_put_back=mended.jobs,
                    hint="something else was written there, and is removed: is the database shared?",
                )  # fmt: skip
        self._mended = time.monotonic()

    async def _round(self) -> None:
        looks_back = time.monotonic() - self._looked_back > LOOK_BACK_EVERY
        ended = {tag: await self._ended(queue, looks_back=looks_back) for tag, queue in tuple(self._queues.items())}
        if not any(ended.values()) or time.monotonic() - self._store_away < GRACE:
            return
        async with self._locks.holding("mail-reaper", ttl=LOCK_TTL) as lock:
            if lock is not None:
                for tag, workers in ended.items():
                    for worker in workers:
                        await self._reap(self._queues[tag], worker)
        if looks_back:
            self._looked_back = time.monotonic()

    async def _ended(self, queue: MailQueue, *, looks_back: bool) -> list[str]:
        """Name the workers that may have left something in hand."""
        if not looks_back:
            return await self._store.run(queue.expired_workers())
        expired, gone = await self._store.run_all(queue.expired_workers(), queue.gone_workers())
        return expired + gone

    async def _reap(self, queue: MailQueue, worker: str) -> None:
        moved = await self._store.run(queue.reap(worker))
        if moved > 0:
            self._metrics.reaped.inc(moved)
            log.warning("worker_reaped", worker=worker[:MOST_OF_NAME], jobs=moved)


class Watch:
    """Measures the queues, which may grow, every few seconds, and says so while Redis is away."""

    def __init__(self, store: Store, queues: Mapping[str, MailQueue], metrics: Metrics, clock: ServerClock) -> None:
        self._store = store
        self._queues = queues
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        was_up = True
        while True:
            try:
                await self._measure()
            except StoreError as error:
                log.warning("store_away", error=str(error))
                is_up = False
            else:
                is_up = True
                if not was_up:
                    log.info("store_back")
            self._metrics.store_up.set(is_up)
            was_up = is_up
            await asyncio.sleep(TELL_EVERY)

    async def _measure(self) -> None:
        queues = tuple(self._queues.values())  # more may come meanwhile
        depths = [await queue.depth(self._store) for queue in queues]
        self._metrics.queue_ready.set(sum(depth.ready for depth in depths))
        self._metrics.queue_delayed.set(sum(depth.delayed for depth in depths))
        self._metrics.queue_taken.set(sum(sum(depth.taken.values()) for depth in depths))
        self._metrics.queue_dead.set(sum(depth.dead for depth in depths))
        ages = [await oldest_age(self._store, queue, self._clock.now()) for queue in queues]
        self._metrics.oldest.set(max(ages))


async def oldest_age(store: Store, queue: MailQueue, now: float) -> float:
    """Seconds since the request of the job to be taken next; 0 where none is ready or its time is not known.

    Not of those put off: one mailbox that is full for an hour is no queue that stands still.
    """
    for job_id, due in await store.run(queue.waiting(most=1)):
        if due is None:
            requested = glance(await store.run(queue.show(job_id))).get("requested_at")
            return max(0.0, now - requested) if is_time(requested) and requested else 0.0
    return 0.0

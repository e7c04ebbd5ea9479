"""Takes jobs of one queue while its lease holds: register, take, renew, promote, drain, give back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import structlog

from mailer.jobs import Jobs, Tools
from mailer.lease import LEASE, RENEW, Lease, Slot, Slots, new_worker_name
from service_kit.stopping import Stop
from shared_store.errors import StoreError, StoreUnavailable
from shared_store.mail_queue import Claimed, MailQueue
from shared_store.store import Store

BLOCK = 1.0  # seconds a wait for a job may take; a stop waits for it
SLOT_WAIT = 1.0
PROMOTE_EVERY = 0.5
PAUSE, LONGEST_PAUSE = 0.1, 2.0  # back-off while Redis is away
DRAIN = 15.0  # of the 20 s that a stop may take; the rest is for giving back
GIVE_BACK_BOUND = 3.0

log = structlog.stdlib.get_logger()


class Worker:
    """One queue's worker. `run` ends after a stop, with nothing left in hand."""

    def __init__(self, queue: MailQueue, store: Store, tools: Tools, slots: Slots) -> None:
        self._queue = queue
        self._store = store
        self._clock = tools.clock
        self._metrics = tools.metrics
        self._jobs = Jobs(queue, tools)
        self._slots = slots
        self._look = False  # whether a claim may find something
        self.lease: Lease | None = None
        self._problem: StoreError | None = None  # of the last try to register or to take

    def check_ready(self) -> None:
        """Make sure that mail can be taken.

        Raises:
            StoreError: why not.
        """
        if self.lease is None or not self.lease.is_fresh:
            why = f": {self._problem}" if self._problem else ""
            raise StoreError(
                f"this mailer holds no lease in Redis yet, or has lost it; it registers again by itself{why}"
            )
        if self._problem is not None and not isinstance(self._problem, StoreUnavailable):
            raise self._problem

    async def run(self, stop: Stop) -> None:
        """Work until a stop is asked for; after a lost lease, begin anew under another name."""
        while (lease := await self._register(stop)) is not None:
            self.lease = lease
            try:
                await self._work(lease, stop)
            finally:
                self.lease = None
            await self._give_back(lease, stop)

    async def _register(self, stop: Stop) -> Lease | None:
        pause = PAUSE
        while not stop.requested:
            worker = new_worker_name()
            try:
                await self._store.run(self._queue.register(worker, lease=LEASE))
            except StoreError as error:
                self._problem = error
                log.debug("registering_failed", error=str(error))
                await stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._problem = None
                log.info("worker_registered", worker=worker)
                return Lease(worker)
        return None

    async def _work(self, lease: Lease, stop: Stop) -> None:
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._keep_lease(lease)), group.create_task(self._promote())]
            await self._take(lease, stop, group)
            await self._drain(lease)
            for helper in helpers:
                helper.cancel()

    # --- taking ---

    async def _take(self, lease: Lease, stop: Stop, group: asyncio.TaskGroup) -> None:
        pause = PAUSE
        while not (stop.requested or lease.lost.is_set()):
            try:
                await self._take_some(lease, stop, group)
                pause, self._problem = PAUSE, None
            except StoreError as error:
                self._problem = error
                log.debug("taking_failed", error=str(error))
                await stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _take_some(self, lease: Lease, stop: Stop, group: asyncio.TaskGroup) -> None:
        """Wait for a job, or take as many as there is room for."""
        if not await self._slots.reserve_one(wait=SLOT_WAIT):
            return
        reserved = 1
        try:
            if stop.requested:  # it came while we waited for the slot
                return
            if not lease.is_fresh and not await self._renew(lease):
                return
            if not self._look:
                # There is room, but other queues may have it while nothing is in this one.
                self._slots.release(1)
                reserved = 0
                self._look = True  # also where the wait fails: the job may have been moved all the same
                await self._queue.wait_for_job(self._store, lease.worker, block=BLOCK)
                return
            reserved += await self._slots.reserve_rest()
            room = len(lease.hand) + reserved
            claim = await self._store.run(self._queue.claim(lease.worker, room=room, known=tuple(lease.hand)))
            if claim is None:
                self._lose(lease)
                return
            self._clock.set(claim.time)
            self._look = len(claim.jobs) >= reserved
            for claimed in {claimed.id: claimed for claimed in claim.jobs}.values():  # junk may lie there twice
                # Some may be more than was reserved: those for jobs that are settled in Redis, but not at an end here.
                self._begin(claimed, lease, group, Slot(self._slots, taken=reserved > 0))
                reserved = max(0, reserved - 1)
            await asyncio.sleep(0)  # those without a slot ask for one before we do again
        finally:
            self._slots.release(reserved)

    def _begin(self, claimed: Claimed, lease: Lease, group: asyncio.TaskGroup, slot: Slot) -> None:
        task = group.create_task(self._work_on(claimed, lease, slot))
        lease.hand[claimed.id] = task

        def end(_task: asyncio.Task[None]) -> None:
            slot.free()
            del lease.hand[claimed.id]

        task.add_done_callback(end)

    async def _work_on(self, claimed: Claimed, lease: Lease, slot: Slot) -> None:
        await slot.take()
        with self._metrics.in_hand.track_inprogress():
            await self._jobs.work_on(claimed, lease, slot)

    # --- the lease ---

    async def _keep_lease(self, lease: Lease) -> None:
        pause = RENEW
        while not lease.lost.is_set():
            await asyncio.sleep(pause)
            try:
                await self._renew(lease)
                pause = RENEW
            except StoreError as error:
                log.debug("renewing_failed", error=str(error))
                pause = PAUSE

    async def _renew(self, lease: Lease) -> bool:
        asked = time.monotonic()
        held = await self._store.run(self._queue.renew(lease.worker, lease=LEASE))
        if held:
            lease.renewed = asked
        else:
            self._lose(lease)
        return held

    def _lose(self, lease: Lease) -> None:
        if not lease.lost.is_set():
            log.warning("lease_lost", worker=lease.worker, in_hand=len(lease.hand))
            self._metrics.leases_lost.inc()
            lease.lose()

    async def _promote(self) -> None:
        while True:
            await asyncio.sleep(PROMOTE_EVERY * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
            with contextlib.suppress(StoreError):
                await self._store.run(self._queue.promote())

    # --- the end ---

    async def _drain(self, lease: Lease) -> None:
        """Let what is in hand come to its end, for a while."""
        tasks = set(lease.hand.values())
        if tasks and not lease.lost.is_set():
            losing = asyncio.ensure_future(lease.lost.wait())
            done = asyncio.ensure_future(asyncio.wait(tasks))
            await asyncio.wait({losing, done}, timeout=DRAIN, return_when=asyncio.FIRST_COMPLETED)
            losing.cancel()
            done.cancel()
        left = set(lease.hand.values())
        for task in left:
            task.cancel()
        if left:
            log.warning("mails_cut_off", number=len(left))
            await asyncio.wait(left)

    async def _give_back(self, lease: Lease, stop: Stop) -> None:
        """Return what is in hand and end the lease.

        After a lost lease there may be a job that was moved into the hand later: it would lie there for ever.
        """
        pause, ends = PAUSE, None
        while ends is None or time.monotonic() < ends:
            if stop.requested and ends is None:
                ends = time.monotonic() + GIVE_BACK_BOUND
            try:
                given = await self._store.run(self._queue.give_back(lease.worker))
            except StoreError as error:
                log.debug("giving_back_failed", error=str(error))
                await stop.wait(pause) if not stop.requested else await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                log.info("worker_left", worker=lease.worker, given_back=given)
                return
        log.error("worker_left_without_word", worker=lease.worker, hint="its jobs are taken over when its lease ends")

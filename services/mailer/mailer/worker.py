"""The worker: holds a lease, takes jobs, delivers them side by side, and says what became of each."""

import asyncio
import contextlib
import random
import secrets
import time
from functools import partial

import structlog

from mailer.delivery import Delivery
from mailer.metrics import Metrics
from mailer.outcomes import Attempt, Verdict
from service_kit.stopping import Stop
from service_kit.tracing import Trace
from shared_store.commands import Call
from shared_store.errors import CorruptRecord, StoreError, StoreFull
from shared_store.mail_jobs import MailJob, NewerJob
from shared_store.mail_queue import POISON_DEATHS, Claim, Claimed, DeadJob, MailQueue, Outcome
from shared_store.store import Store

log = structlog.get_logger(__name__)

LEASE = 15.0  # seconds
RENEW_EVERY = 2.5  # seconds
BLOCK = 1.0  # seconds that a worker waits for a job in one go: also how long a stop may have to wait
PAUSE = 0.2  # seconds between tries while Redis is away or full
LONGEST_PAUSE = 2.0  # seconds
FIRST_DELAY, LONGEST_DELAY = 2.0, 60.0  # seconds of back-off between attempts
NEWER_DELAY = 30.0  # seconds for which a job is left to a newer mailer
DRAIN = 17.0  # seconds that deliveries in hand have when asked to stop


class Worker:
    """Takes jobs from one queue, at most `concurrency` at a time."""

    def __init__(
        self, *, store: Store, queue: MailQueue, delivery: Delivery, metrics: Metrics, concurrency: int
    ) -> None:
        self._store = store
        self._queue = queue
        self._delivery = delivery
        self._metrics = metrics
        self._concurrency = concurrency
        self._id = _new_id()
        self._hand: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._registered = False
        self._clock_offset = time.time() - time.monotonic()

    async def check_registered(self) -> None:
        """Tell readiness whether jobs are taken.

        Raises:
            RuntimeError: they are not.
        """
        if not self._registered:
            raise RuntimeError("the worker is not registered with the queue yet")

    async def run(self, stop: Stop) -> None:
        """Work until asked to stop, then finish what is in hand and give the rest back."""
        keeping = asyncio.create_task(self._keep_lease())
        try:
            await self._take_until(stop)
            if self._hand:
                await asyncio.wait(self._hand.values(), timeout=DRAIN)
            await self._drop_hand()
            await self._leave()
        finally:
            await _end(keeping)

    # --- the lease ---

    async def _keep_lease(self) -> None:
        """Register, renew, and begin anew under another id where the lease was lost."""
        pause = PAUSE
        while True:
            try:
                await self._renew()
                pause = PAUSE
                await asyncio.sleep(RENEW_EVERY)
            except StoreError as error:
                log.debug("lease_not_renewed", error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _renew(self) -> None:
        if self._registered:
            if await self._store.run(self._queue.renew(self._id, lease=LEASE)):
                return
            # The reaper may have given our jobs to others: whoever has them now sends them.
            log.warning("lease_lost", worker=self._id, dropped=len(self._hand))
            self._registered = False
            await self._drop_hand()
            self._id = _new_id()
        await self._store.run(self._queue.register(self._id, lease=LEASE))
        self._registered = True
        log.info("worker_registered", worker=self._id)

    async def _leave(self) -> None:
        try:
            returned = await self._store.run(self._queue.give_back(self._id))
        except StoreError as error:
            log.warning("jobs_not_given_back", error=str(error), hint="another mailer takes them over within 20 s")
        else:
            log.info("worker_left", worker=self._id, given_back=returned)

    async def _drop_hand(self) -> None:
        for task in list(self._hand.values()):
            await _end(task)
        self._hand.clear()

    # --- taking ---

    async def _take_until(self, stop: Stop) -> None:
        """Take jobs as room and queue allow."""
        pause, queue_has_more = PAUSE, False
        while not stop.requested:
            if not self._registered:
                await stop.wait(PAUSE)
                continue
            if len(self._hand) >= self._concurrency:
                await self._wait_for_room()
                continue
            try:
                queue_has_more = await self._take(wait=not queue_has_more)
                pause = PAUSE
            except StoreError as error:
                log.warning("no_jobs_taken", error=str(error))
                await stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _take(self, *, wait: bool) -> bool:
        """Fill the hand; tells whether the queue probably has more."""
        if wait:
            try:
                await self._queue.wait_for_job(self._store, self._id, block=BLOCK)
            except StoreFull:
                # BLMOVE needs memory; claiming does not, since it removes before it adds.
                await asyncio.sleep(PAUSE)
        room = self._concurrency - len(self._hand)
        claim = await self._store.run(self._queue.claim(self._id, room=self._concurrency, known=list(self._hand)))
        if claim is None:
            # The lease is gone; the task that keeps it finds out and begins anew.
            await asyncio.sleep(PAUSE)
            return False
        self._begin(claim)
        return len(claim.jobs) >= room

    def _begin(self, claim: Claim) -> None:
        self._clock_offset = claim.time - time.monotonic()
        for claimed in claim.jobs:
            if claimed.id in self._hand:
                continue
            task = asyncio.create_task(self._work_on(claimed, self._id))
            self._hand[claimed.id] = task
            task.add_done_callback(partial(self._done, claimed.id))
        self._metrics.in_hand(len(self._hand))

    def _done(self, job_id: str, task: "asyncio.Task[None]") -> None:
        if self._hand.get(job_id) is task:
            del self._hand[job_id]
        self._room.set()
        self._metrics.in_hand(len(self._hand))
        if not task.cancelled() and (failure := task.exception()) is not None:
            # The job stays in our hand in Redis; the next claim gives it to us again.
            log.error("delivery_failed", job=job_id, exc_info=failure)

    async def _wait_for_room(self) -> None:
        self._room.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCK):
                await self._room.wait()

    # --- one job ---

    async def _work_on(self, claimed: Claimed, worker: str) -> None:
        try:
            job = _read(claimed)
        except NewerJob as error:
            log.warning("job_left_for_newer_mailer", job=claimed.id, error=str(error))
            await self._settle(self._queue.delay_unread(worker, claimed, seconds=NEWER_DELAY))
            return
        except CorruptRecord as error:
            log.error("job_malformed", job=claimed.id, error=str(error))  # noqa: TRY400  the message says it all
            dead = DeadJob(id=claimed.id, reason="malformed", time=self._now())
            await self._settle(self._queue.bury(worker, dead, Outcome.FAILED))
            return
        with Trace.from_header(job.trace).in_logs(), structlog.contextvars.bound_contextvars(login=job.login):
            if claimed.deaths >= POISON_DEATHS:
                await self._bury(job, "poison", Outcome.FAILED, worker)
            elif self._now() >= job.deadline:
                await self._bury(job, "expired", Outcome.FAILED, worker)
            else:
                await self._deliver(job, worker)

    async def _deliver(self, job: MailJob, worker: str) -> None:
        attempt = await self._delivery.attempt(job, now=self._now())
        if attempt.verdict is Verdict.DELIVERED:
            await self._settle(self._queue.finish(worker, job.id, Outcome.DELIVERED, tell=job.reply_to))
            self._metrics.finished("delivered", since_request=self._now() - job.requested_at)
            return
        job = job.after_attempt(attempt.detail)
        if attempt.verdict is Verdict.GIVE_UP:
            await self._bury(job, "rejected", Outcome.REJECTED, worker)
            return
        delay = _back_off(job.attempts, attempt)
        if self._now() + delay >= job.deadline:
            await self._bury(job, "expired", Outcome.FAILED, worker)
            return
        log.info("mail_put_off", job=job.id, attempts=job.attempts, seconds=round(delay, 1), detail=attempt.detail)
        await self._settle(self._queue.delay(worker, job, seconds=delay))

    async def _bury(self, job: MailJob, reason: str, outcome: Outcome, worker: str) -> None:
        log.warning("mail_given_up", job=job.id, reason=reason, attempts=job.attempts, history=job.history)
        dead = DeadJob.of(job, reason, self._now())
        await self._settle(self._queue.bury(worker, dead, outcome, tell=job.reply_to))
        self._metrics.finished(reason)

    async def _settle(self, call: Call[bool]) -> None:
        """Write what became of a job, however long Redis is away: a mail that is out must not be forgotten."""
        pause = PAUSE
        while True:
            try:
                if not await self._store.run(call):
                    log.warning("job_was_not_ours", hint="it had been taken over, or its outcome was written before")
            except StoreError as error:
                log.warning("outcome_not_written", error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    def _now(self) -> float:
        return time.monotonic() + self._clock_offset


def _new_id() -> str:
    return secrets.token_hex(8)


def _read(claimed: Claimed) -> MailJob:
    if claimed.raw is None:
        raise CorruptRecord("nothing lies in Redis for this job")
    job = MailJob.from_json(claimed.raw)
    if job.id != claimed.id:
        raise CorruptRecord("the job is not the one that its id names")
    return job


def _back_off(attempts: int, attempt: Attempt) -> float:
    """Full jitter: from 2 s doubling to 60 s, at least half a second, and never less than the server asks for."""
    longest = min(FIRST_DELAY * 2.0 ** (attempts - 1), LONGEST_DELAY)
    return max(random.uniform(0.5, longest), attempt.retry_after)  # noqa: S311  not a secret


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel a task until it is done: on Python 3.11 libraries that use `wait_for` may swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)

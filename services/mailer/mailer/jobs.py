"""What is done with one job in hand: read it, send it, and settle it with the store, whatever comes in between."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from mailer.delivery import PATIENCE, Delivery
from mailer.errors import MalformedMailError
from mailer.lease import Lease, ServerClock, Slot
from mailer.metrics import Metrics
from mailer.rendering import Renderer
from mailer.verdicts import Fault, Kind, Verdict
from service_kit.tracing import step, tell
from shared_store.batching import Batching
from shared_store.commands import Call
from shared_store.dead_letters import DeadJob
from shared_store.errors import CorruptRecord, StoreError
from shared_store.mail_jobs import MOST_OF_ID, MailJob, NewerJob, glance, is_time
from shared_store.mail_queue import POISON_DEATHS, Claimed, MailQueue, Outcome

T = TypeVar("T")

HAND_OVER = 1.0  # seconds before the deadline at which a server is given a mail at the latest
UNREAD_PAUSE = 3.0  # seconds for which a job for a newer mailer is put off: a person waits, and one may be there
BACK_OFF, LONGEST_BACK_OFF = 2.0, 60.0
SETTLE_AGAIN, LONGEST_SETTLE_AGAIN = 0.05, 1.0
REMEMBERED = 10_000  # deliveries whose settling is not confirmed

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Tools:
    """What working on a job takes, the same for all queues."""

    settling: Batching
    renderer: Renderer
    delivery: Delivery
    metrics: Metrics
    clock: ServerClock
    attempt_timeout: float


class Jobs:
    """Works on jobs of one queue."""

    def __init__(self, queue: MailQueue, tools: Tools) -> None:
        self._queue = queue
        self._tools = tools
        # Delivered, but the store may not know: if such a job comes again it is finished, not sent.
        self._delivered: dict[str, Verdict] = {}

    async def work_on(self, claimed: Claimed, lease: Lease, slot: Slot) -> None:
        """Bring one job to an end or put it off. Returns early only where the lease may be gone."""
        try:
            job = MailJob.from_json(claimed.raw or b"")
        except NewerJob as error:
            log.warning("mail_job_newer", job=claimed.id[:MOST_OF_ID], error=str(error))
            await self._leave(claimed, lease)
            return
        except CorruptRecord as error:
            log.error("mail_job_malformed", job=claimed.id[:MOST_OF_ID], error=str(error))  # noqa: TRY400  it says it all
            await self._bury(DeadJob(claimed.id, "malformed", self._tools.clock.now()), Outcome.FAILED, lease)
            return
        names = {"login": job.login} if job.login else {}
        with (
            step("mail job", job.trace, kind="consumer") as current,
            current.trace.in_logs(),
            structlog.contextvars.bound_contextvars(**names),
        ):
            current.tell(job=claimed.id, attempt=job.attempts + 1, login=job.login)
            if job.id != claimed.id:
                log.error("mail_job_malformed", job=claimed.id[:MOST_OF_ID], error="it lies under another id")
                await self._bury(DeadJob(claimed.id, "malformed", self._tools.clock.now()), Outcome.FAILED, lease)
            elif claimed.deaths >= POISON_DEATHS and job.id not in self._delivered:
                await self._give_up(job, "poison", Outcome.FAILED, lease)
            else:
                await self._attempt(job, lease, slot)

    async def _leave(self, claimed: Claimed, lease: Lease) -> None:
        """Leave a job to a newer mailer, until it is too late for that one, too."""
        deadline, now = glance(claimed.raw).get("deadline"), self._tools.clock.now()
        if is_time(deadline) and deadline <= now:
            await self._bury(DeadJob(claimed.id, "expired", now), Outcome.FAILED, lease)
        else:
            await self._settle(self._queue.delay_unread(lease.worker, claimed, seconds=UNREAD_PAUSE), lease)

    async def _attempt(self, job: MailJob, lease: Lease, slot: Slot) -> None:
        left = job.deadline - self._tools.clock.now()
        verdict = self._delivered.get(job.id)
        if verdict is None and left <= 0:
            await self._give_up(job, "expired", Outcome.FAILED, lease)
            return
        if verdict is None:
            if not lease.is_fresh:
                return  # we stalled: the next claim gives it again, if it is still ours
            verdict = await self._send(job, left, lease, slot)
            self._count(job, verdict)
            delivered = verdict.kind is Kind.DELIVERED
            tell(
                transport=verdict.transport, outcome=verdict.kind.value, fault=verdict.fault.value, failed=not delivered
            )
            if verdict.kind is Kind.DELIVERED:
                log.info("mail_delivered", job=job.id, transport=verdict.transport, attempts=job.attempts + 1)
        if verdict.kind is Kind.DELIVERED:
            await self._finish(job, verdict, lease)
        elif verdict.kind is Kind.GIVE_UP:
            job = job.after_attempt(_recorded(verdict))
            await self._give_up(job, f"rejected: {verdict.reason}", Outcome.REJECTED, lease)
        else:
            await self._put_off(job.after_attempt(_recorded(verdict)), verdict, lease)

    async def _send(self, job: MailJob, left: float, lease: Lease, slot: Slot) -> Verdict:
        clock = self._tools.clock

        def still_wanted() -> bool:
            if self._tools.delivery.has_choice:
                # Where its server falls silent now, nothing but waiting helps this mail; others can go another way.
                slot.free_in(PATIENCE)
            return lease.is_fresh and clock.now() < job.deadline - HAND_OVER

        try:
            mail = replace(self._tools.renderer.render(job, now=clock.now()), still_wanted=still_wanted)
            return await self._tools.delivery.attempt(mail, bound=self._tools.attempt_timeout, within=left)
        except MalformedMailError as error:
            return Verdict(Kind.GIVE_UP, Fault.RECIPIENT, f"malformed: {error}")
        except Exception as error:
            # A fault of ours must not take the other mails down; the job is tried again until its deadline.
            log.exception("mail_attempt_failed_unexpectedly", job=job.id)
            return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, f"internal {type(error).__name__}")

    def _count(self, job: MailJob, verdict: Verdict) -> None:
        waited = self._tools.clock.now() - job.requested_at if job.requested_at else None
        self._tools.metrics.attempt(verdict, to=job.to, waited=waited)

    async def _finish(self, job: MailJob, verdict: Verdict, lease: Lease) -> None:
        if len(self._delivered) >= REMEMBERED:
            self._delivered.pop(next(iter(self._delivered)))
        self._delivered[job.id] = verdict
        call = self._queue.finish(lease.worker, job.id, Outcome.DELIVERED, tell=job.reply_to)
        if await self._settle(call, lease):
            del self._delivered[job.id]

    async def _put_off(self, job: MailJob, verdict: Verdict, lease: Lease) -> None:
        left = job.deadline - self._tools.clock.now() - self._tools.attempt_timeout
        pause = random.uniform(0, min(LONGEST_BACK_OFF, BACK_OFF * 2 ** min(job.attempts - 1, 10)))  # noqa: S311
        if left <= 0:
            await self._give_up(job, "expired", Outcome.FAILED, lease)
            return
        # The last attempt is made while it can still be in time; who asked for more has a rest until then.
        pause = min(max(pause, verdict.retry_after), left)
        log.warning(
            "mail_put_off", job=job.id, transport=verdict.transport, reason=verdict.reason, attempts=job.attempts,
            seconds=round(pause, 1),
        )  # fmt: skip
        self._tools.metrics.retries.inc()
        await self._settle(self._queue.delay(lease.worker, job, seconds=pause), lease)

    async def _give_up(self, job: MailJob, reason: str, outcome: Outcome, lease: Lease) -> None:
        log.warning("mail_given_up", job=job.id, reason=reason, attempts=job.attempts)
        dead = DeadJob.of(job, reason.partition(":")[0], self._tools.clock.now())
        await self._bury(dead, outcome, lease, tell=job.reply_to)

    async def _bury(self, dead: DeadJob, outcome: Outcome, lease: Lease, *, tell: str = "") -> None:
        self._tools.metrics.given_up(dead.reason)
        await self._settle(self._queue.bury(lease.worker, dead, outcome, tell=tell), lease)

    async def _settle(self, call: Call[T], lease: Lease) -> T | None:
        """Tell the store, for as long as it takes or until the lease is lost; None in that case."""
        pause = SETTLE_AGAIN
        while not lease.lost.is_set():
            try:
                return await self._tools.settling.run(call)
            except StoreError as error:
                log.debug("settling_delayed", error=str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(pause * 2, LONGEST_SETTLE_AGAIN)
        return None


def _recorded(verdict: Verdict) -> str:
    return f"{verdict.transport}: {verdict.reason}" if verdict.transport else verdict.reason

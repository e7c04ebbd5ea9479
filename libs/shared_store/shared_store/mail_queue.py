"""The mail queue: lists for the hand-off, one lease a worker, at least once, one identity a job.

A job is always in exactly one place: ready, delayed, in one worker's hand, or behind a job of the same login that is in
hand. Every step is one script.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared_store.commands import Call, Reply, command, load_script
from shared_store.dead_letters import DeadJob
from shared_store.errors import QueueFull, StoreFull
from shared_store.keyspace import (
    MAIL_DEAD,
    MAIL_DEATHS,
    MAIL_DELAYED,
    MAIL_GONE,
    MAIL_JOBS,
    MAIL_LEASES,
    MAIL_LOGINS,
    MAIL_READY,
    MAIL_RESULT,
    MAIL_TAKEN,
)
from shared_store.mail_jobs import MailJob, due_at
from shared_store.store import Store

RESULT_KEPT = 120  # seconds
DEAD_KEPT = 1000  # jobs
POISON_DEATHS = 3  # workers that died holding a job, after which it is buried
PROMOTE_AT_ONCE = 500
GONE_KEPT = 3600  # seconds

_ENQUEUE = load_script("enqueue_mail", shared="mail_logins")
_RENEW = load_script("renew_lease")
_CLAIM = load_script("claim_mail")
_FINISH = load_script("finish_mail", shared="mail_logins")
_DELAY = load_script("delay_mail", shared="mail_logins")
_PROMOTE = load_script("promote_mail")
_EXPIRED = load_script("expired_workers")
_GONE = load_script("gone_workers")
_REAP = load_script("reap_mail", shared="mail_logins")
_GIVE_BACK = load_script("give_back_mail", shared="mail_logins")
_REVIVE = load_script("revive_mail", shared="mail_logins")


class Outcome(StrEnum):
    """What became of a job, as the page that waits for it is told."""

    DELIVERED = "delivered"  # the next server took responsibility for it
    REJECTED = "rejected"  # this address can't be mailed
    FAILED = "failed"  # given up for another reason


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that a worker has in hand: its id, what lies in Redis for it (None: nothing), workers that died of it."""

    id: str
    raw: bytes | None
    deaths: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker newly has in hand, and the server's time (Unix seconds)."""

    time: float
    jobs: tuple[Claimed, ...]


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs are ready, delayed, in each worker's hand, dead."""

    ready: int
    delayed: int
    taken: dict[str, int]
    dead: int


class MailQueue:
    """One queue, under the hash tag `tag`. Its methods give calls; those that take a store wait."""

    def __init__(self, tag: str = "mail") -> None:
        self.tag = tag
        self._ready = MAIL_READY.key(tag=tag)
        self._delayed = MAIL_DELAYED.key(tag=tag)
        self._jobs = MAIL_JOBS.key(tag=tag)
        self._deaths = MAIL_DEATHS.key(tag=tag)
        self._logins = MAIL_LOGINS.key(tag=tag)
        self._leases = MAIL_LEASES.key(tag=tag)
        self._gone = MAIL_GONE.key(tag=tag)
        self._dead = MAIL_DEAD.key(tag=tag)

    def _taken(self, worker: str) -> bytes:
        return octets(MAIL_TAKEN.key(tag=self.tag, worker=worker))

    def _result(self, job_id: str) -> str:
        return MAIL_RESULT.key(tag=self.tag, job=octets(job_id).decode("utf-8", "replace"))

    # --- the producer's side ---

    def enqueue(self, job: MailJob, *, bound: int) -> Call[None]:
        """Hand a job over; one that is known already is left as it is.

        One login has one job in line: a newer takes the older's place, or waits until that is out of a worker's hand.

        Raises:
            QueueFull: as many jobs wait as `bound` allows.
            NotReplicated: the job is queued, but on too few replicas.
        """

        def decode(replies: list[Reply]) -> None:
            if replies[0] < 0:
                raise QueueFull("too many mails wait to be sent: look at the mailer and its mail server")

        keys = [self._ready, self._delayed, self._jobs, self._result(job.id), self._deaths, self._logins]
        return Call((_ENQUEUE(keys, job.id, job.to_json(), bound),), decode, durable=True)

    def result(self, job_id: str) -> Call[Outcome | None]:
        """Read a job's outcome; None while there is none, and 120 s after."""
        return Call((command("GET", self._result(job_id)),), lambda replies: _outcome(replies[0]))

    # --- the worker's side ---

    def register(self, worker: str, *, lease: float) -> Call[bool]:
        """Begin a worker's lease of `lease` seconds."""
        return self.renew(worker, lease=lease, register=True)

    def renew(self, worker: str, *, lease: float, register: bool = False) -> Call[bool]:
        """Give a worker's lease its whole life again; False where it was gone, and with it what was in hand."""
        words = (octets(worker), int(lease * 1000), int(register))
        return Call((_RENEW([self._leases], *words),), lambda replies: bool(replies[0]))

    async def wait_for_job(self, store: Store, worker: str, *, block: float) -> bool:
        """Wait up to `block` seconds for a job to be ready and move one into the worker's hand.

        Tells whether there was one; `claim` gives it. Never cancel this.

        Raises StoreError as the store does; a job moved all the same is given by the next `claim`.
        """
        words = ("BLMOVE", self._ready, self._taken(worker), "RIGHT", "LEFT", str(block))
        try:
            return await store.take(*words, block=block) is not None
        except StoreFull:
            # A full server refuses BLMOVE even where there is nothing to move; claim's script may move what there is.
            await asyncio.sleep(min(block, 1.0))
            return True

    def claim(self, worker: str, *, room: int, known: Iterable[str]) -> Call[Claim | None]:
        """Fill the worker's hand up to `room` jobs and give those it does not know of; None: its lease is gone."""

        def decode(replies: list[Reply]) -> Claim | None:
            if replies[0] is None:
                return None
            milliseconds, flat = replies[0]
            triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
            jobs = tuple(Claimed(text_of(job_id), raw, deaths) for job_id, raw, deaths in triples)
            return Claim(milliseconds / 1000, jobs)

        keys: list[str | bytes] = [self._ready, self._taken(worker), self._jobs, self._leases, self._deaths]
        return Call((_CLAIM(keys, worker, room, *map(octets, known)),), decode)

    def finish(self, worker: str, job_id: str, outcome: Outcome, *, tell: str = "") -> Call[bool]:
        """Be done with a delivered job and tell the page that waits; False where it was not in the worker's hand."""
        return self._finish(worker, job_id, outcome, tell, "")

    def bury(self, worker: str, dead: DeadJob, outcome: Outcome, *, tell: str = "") -> Call[bool]:
        """Give a job up, keeping what is told of it among the dead; False where it was not in the worker's hand."""
        return self._finish(worker, dead.id, outcome, tell, dead.to_json())

    def _finish(self, worker: str, job_id: str, outcome: Outcome, tell: str, dead: str) -> Call[bool]:
        others = [self._jobs, self._deaths, self._dead, self._result(job_id), self._ready, self._logins]
        keys: list[str | bytes] = [self._taken(worker), *others]
        words = (octets(job_id), outcome.value, RESULT_KEPT * 1000, tell, dead, DEAD_KEPT)
        return Call((_FINISH(keys, *words),), lambda replies: bool(replies[0]))

    def delay(self, worker: str, job: MailJob, *, seconds: float) -> Call[bool]:
        """Put a job off; False where it was not in the worker's hand."""
        return self._delay(worker, job.id, job.to_json(), seconds)

    def delay_unread(self, worker: str, claimed: Claimed, *, seconds: float) -> Call[bool]:
        """Put off a job as it lies there, unread: one that only a newer mailer can read."""
        return self._delay(worker, claimed.id, claimed.raw or b"", seconds)

    def _delay(self, worker: str, job_id: str, job: str | bytes, seconds: float) -> Call[bool]:
        keys: list[str | bytes] = [self._taken(worker), self._jobs, self._delayed, self._deaths, self._logins]
        return Call((_DELAY(keys, octets(job_id), job, int(seconds * 1000)),), lambda replies: bool(replies[0]))

    def promote(self) -> Call[int]:
        """Make delayed jobs whose time has come ready; tells how many."""
        return Call((_PROMOTE([self._delayed, self._ready], PROMOTE_AT_ONCE),), lambda replies: int(replies[0]))

    def expired_workers(self) -> Call[list[str]]:
        """Name the workers whose lease has ended."""
        return Call((_EXPIRED([self._leases]),), lambda replies: list(map(text_of, replies[0][1])))

    def now(self) -> Call[float]:
        """Tell the time of the server that has the queue (Unix seconds)."""
        return Call((_EXPIRED([self._leases]),), lambda replies: int(replies[0][0]) / 1000)

    def gone_workers(self) -> Call[list[str]]:
        """Name the workers whose lease was ended within the last hour: a late move may have filled their hand."""
        return Call((_GONE([self._gone], GONE_KEPT * 1000),), lambda replies: list(map(text_of, replies[0])))

    def reap(self, worker: str) -> Call[int]:
        """Put back what a dead worker had in hand; tells how many jobs, -1 where it is alive after all."""
        return Call((_REAP(self._hand(worker), octets(worker)),), lambda replies: int(replies[0]))

    def give_back(self, worker: str) -> Call[int]:
        """Return what a worker has in hand, untried, and end its lease; tells how many jobs."""
        return Call((_GIVE_BACK(self._hand(worker), octets(worker)),), lambda replies: int(replies[0]))

    def _hand(self, worker: str) -> list[str | bytes]:
        return [self._leases, self._taken(worker), self._ready, self._deaths, self._jobs, self._logins, self._gone]

    # --- the operator's side ---

    async def depth(self, store: Store) -> Depth:
        """Count what waits."""
        counts = command("LLEN", self._ready), command("ZCARD", self._delayed), command("LLEN", self._dead)
        commands = (*counts, command("ZRANGE", self._leases, 0, -1))
        ready, delayed, dead, workers = await store.run(Call(commands, tuple))
        names = [text_of(worker) for worker in workers]
        hands = await store.run(Call(tuple(command("LLEN", self._taken(name)) for name in names), list))
        return Depth(ready, delayed, dict(zip(names, hands, strict=True)), dead)

    def waiting(self, *, most: int) -> Call[list[tuple[str, float | None]]]:
        """List ids that wait, next first: with the time (Unix seconds) of their next attempt where they are delayed."""

        def decode(replies: list[Reply]) -> list[tuple[str, float | None]]:
            ready, delayed = replies
            pairs = (
                zip(delayed[::2], delayed[1::2], strict=True) if delayed[:1] and type(delayed[0]) is bytes else delayed
            )
            listed: list[tuple[str, float | None]] = [(text_of(job_id), None) for job_id in reversed(ready)]
            return listed + [(text_of(job_id), due_at(due)) for job_id, due in pairs]

        commands = (
            command("LRANGE", self._ready, -most, -1),
            command("ZRANGE", self._delayed, 0, most - 1, "WITHSCORES"),
        )
        return Call(commands, decode)

    def show(self, job_id: str) -> Call[bytes | None]:
        """Read a job as it lies in Redis."""
        return Call((command("HGET", self._jobs, octets(job_id)),), lambda replies: replies[0])

    def retry_now(self, job_id: str) -> Call[bool]:
        """Bring a delayed job forward; False where it neither is delayed nor ready."""
        return self._revive(job_id, "now")

    def drop(self, job_id: str) -> Call[bool]:
        """Remove a job that waits; False where it does not."""
        return self._revive(job_id, "drop")

    def _revive(self, job_id: str, verb: str) -> Call[bool]:
        revive = _REVIVE([self._delayed, self._ready, self._jobs, self._deaths, self._logins], octets(job_id), verb)
        return Call((revive,), lambda replies: bool(replies[0]))

    def dead_letters(self, *, most: int = DEAD_KEPT) -> Call[list[DeadJob]]:
        """List the jobs given up, newest first."""
        letters = command("LRANGE", self._dead, 0, most - 1)
        return Call((letters,), lambda replies: [DeadJob.from_json(text) for text in replies[0]])

    def purge_dead(self) -> Call[int]:
        """Forget the jobs given up; tells how many."""
        return Call((command("LLEN", self._dead), command("DEL", self._dead)), lambda replies: int(replies[0]))


def parse_result(message: bytes) -> tuple[str, Outcome] | None:
    """Read a message of the result channel: job id and outcome; None for anything else."""
    job_id, _, outcome = message.decode("utf-8", "replace").partition(" ")
    known = _outcome(outcome.encode())
    return (job_id, known) if known is not None else None


def octets(job_id: str) -> bytes:
    """Give an id as it lies in Redis: junk, which something else put there, has to be buried under its own name."""
    return job_id.encode("utf-8", "surrogateescape")


def text_of(name: bytes) -> str:
    """Give an id or a worker's name as text; `octets` gives it back, whatever it is."""
    return name.decode("utf-8", "surrogateescape")


def _outcome(text: Reply) -> Outcome | None:
    try:
        return Outcome(text.decode())
    except (AttributeError, ValueError):
        return None

"""Many jobs through four real mailers while everything around them fails, and the books on what became of each.

Evidence is kept as it arises: what a mailer had in hand when it was killed or stopped, which connections the mail
server closed after the text without a reply, what the mailers' logs say of each job. At the end every job is accounted
for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared_store.commands import Call, command
from shared_store.errors import StoreError, StoreFull
from shared_store.keyspace import MAIL_JOBS, MAIL_LEASES, MAIL_TAKEN
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import MailQueue
from shared_store.store import Store
from shared_store.testing.servers import RedisServer, free_port

from .processes import MailerProcess, is_done, job, until
from .smtp_server import CLOSE, HANG, Received, SmtpServer

MAILERS = 4
AT_ONCE = 250  # jobs handed over in one round trip
QUEUE = MailQueue()
_MESSAGE_ID = re.compile(rb"^Message-ID: <([^@>]+)@", re.MULTILINE | re.IGNORECASE)
# Of a hundred mails, so many meet each of these at the server. A refusal for good is a job's end, with its reason.
REFUSED_FOR_NOW, REFUSED_FOR_GOOD, CLOSED_BEFORE, CLOSED_AFTER, SILENT_AFTER = 3, 1, 1, 1, 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much, and how long each fault lasts, in seconds."""

    jobs: int
    rounds: int
    stop: float
    smtp_down: float
    redis_down: float
    full: float
    smtp_takes: float  # for each mail
    kill_every: float


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One mail that the server took: when (Unix time), from which mailer; CLOSE or HANG where it did not say so."""

    at: float
    mailer: str
    instead: str | None


@dataclass(frozen=True, slots=True)
class Death:
    """A mailer killed, or stopped for longer than its lease, with what it had in hand."""

    mailer: str
    at: float
    hand: frozenset[str]


@dataclass(slots=True)
class Books:
    """Everything that is known of the jobs."""

    jobs: dict[str, MailJob] = field(default_factory=dict)
    replaced_by: dict[str, str] = field(default_factory=dict)
    accepted: defaultdict[str, list[Acceptance]] = field(default_factory=lambda: defaultdict(list))
    deaths: list[Death] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)  # job to reason
    # Jobs that a mailer got no reply for after the text, with what came instead.
    unknown: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    served: Counter[str] = field(default_factory=Counter)
    logged: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by job; "" for the rest
    happened: list[str] = field(default_factory=list)  # faults, with their time

    def note(self, what: str) -> None:
        """Write down what happened just now."""
        self.happened.append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}")

    def read_log(self, name: str, text: str) -> None:
        """Take over what a mailer's log says of jobs."""
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                said = " ".join(str(event.get(key, "")) for key in ("timestamp", "event", "reason", "worker", "error"))
                self.logged[event.get("job", "")].append(f"{name} {said}")
                if event.get("event") == "mail_given_up":
                    self.dead[event["job"]] = event["reason"]
                elif event.get("event") == "mail_put_off" and event["reason"].startswith("content "):
                    self.unknown[event["job"]].add(event["reason"])

    @property
    def lost(self) -> list[str]:
        """Jobs that were neither taken by the server, nor given up with a reason, nor replaced by a newer one."""
        return [one for one in self.jobs if not (one in self.accepted or one in self.dead or one in self.replaced_by)]

    @property
    def late(self) -> list[str]:
        """Jobs that the server took after their deadline."""
        return [one for one, taken in self.accepted.items() if any(a.at > self.jobs[one].deadline for a in taken)]

    def explain(self, job_id: str) -> list[str | None]:
        """For each acceptance of a job after which it was sent again: why; None where nothing explains it."""
        return [self._why_sent_again(job_id, before) for before in self.accepted[job_id][:-1]]

    def story(self, job_id: str) -> str:
        """All that is known of a job, for whoever looks for the reason of a duplicate."""
        taken = [f"{datetime.fromtimestamp(one.at, UTC):%H:%M:%S.%f} taken of {one.mailer}, {one.instead or 'told'}"
                 for one in self.accepted[job_id]]  # fmt: skip
        return "\n".join([job_id, *taken, *self.logged[job_id], *self.happened, *self.logged[""]])

    def _why_sent_again(self, job_id: str, taken: Acceptance) -> str | None:
        for death in self.deaths:
            if death.mailer == taken.mailer and job_id in death.hand and death.at > taken.at - 1:
                return "killed or stopped between the server's reply and the finish"
        # A server that was silent may have been taken down within the attempt's time.
        if taken.instead == CLOSE or (taken.instead == HANG and "content connection lost" in self.unknown[job_id]):
            return "closed after DATA without a reply"
        return "no reply within the attempt's time" if "content timed out" in self.unknown[job_id] else None


class Soak:
    """Runs a plan. `report` is called with one line a fault."""

    def __init__(self, plan: Plan, report: Callable[[str], None]) -> None:
        self._plan = plan
        self._report = report
        self.books = Books()
        self._random = random.Random()
        self._smtp = SmtpServer()
        self._smtp.rules.delay = plan.smtp_takes
        self._smtp.rules.answer = self._answer
        self._smtp.rules.after = self._accept
        self._mailers: dict[str, MailerProcess] = {}
        # With `everysec` a killed server forgets what it took during a sync: jobs that it had accepted.
        config = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        self._redis = RedisServer("valkey9", port=free_port(), config=config)
        self._one_at_a_time = asyncio.Lock()  # lest one fault picks, or wakes, another's victim
        self._stopped = ""  # the mailer that is to sleep on
        self._refusals = 0
        self._recent: dict[str, str] = {}  # jobs handed over lately, and their logins

    # --- the mail server ---

    def _answer(self, stage: str, _recipient: str) -> str | None:
        chance = self._random.random() * 100
        if stage == "RCPT" and chance < REFUSED_FOR_NOW + REFUSED_FOR_GOOD:
            self.books.served["4xx" if chance < REFUSED_FOR_NOW else "5xx"] += 1
            return "450 4.2.1 later" if chance < REFUSED_FOR_NOW else "550 5.1.1 nobody"
        if stage == "content" and chance < CLOSED_BEFORE:
            self.books.served["closed after DATA, not taken"] += 1
            return CLOSE
        return None

    def _accept(self, mail: Received) -> str | None:
        self._smtp.received.clear()
        self._smtp.commands.clear()
        found = _MESSAGE_ID.search(mail.content)
        assert found is not None
        chance = self._random.random() * 100
        silent = SILENT_AFTER if len(self.books.jobs) < self._plan.jobs * 0.7 else 0  # later ones would be waited for
        instead = CLOSE if chance < CLOSED_AFTER else HANG if chance < CLOSED_AFTER + silent else None
        what = {None: "taken", CLOSE: "closed after DATA, taken", HANG: "silent after DATA, taken"}[instead]
        self.books.served[what] += 1
        self.books.accepted[found[1].decode()].append(Acceptance(time.time(), mail.sender, instead))
        return instead

    # --- handing over ---

    async def _hand_over(self, store: Store, number: int) -> None:
        """Queue jobs: some with a deadline that is near, some that replace one of the same login."""
        for start in range(0, number, AT_ONCE):
            jobs = [self._make() for _ in range(min(AT_ONCE, number - start))]
            while not await self._enqueued(store, jobs):
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.05)

    def _make(self) -> MailJob:
        number = len(self.books.jobs)
        replaced = self._random.choice([*self._recent]) if self._recent and self._random.random() < 0.03 else None
        login = self._recent.pop(replaced) if replaced else f"login-{number}"
        seconds = self._random.uniform(2, 20) if self._random.random() < 0.05 else 900
        made = job(f"person{number}@example.org", id=new_job_id(login), deadline=time.time() + seconds)
        if replaced:
            self.books.replaced_by[replaced] = made.id
        self.books.jobs[made.id] = made
        self._recent[made.id] = login
        if len(self._recent) > AT_ONCE:
            del self._recent[next(iter(self._recent))]
        return made

    async def _enqueued(self, store: Store, jobs: list[MailJob]) -> bool:
        try:
            await store.run_all(*(QUEUE.enqueue(one, bound=1_000_000) for one in jobs))
        except StoreFull:
            self._refusals += 1
            return False
        except StoreError:
            return False
        return True

    # --- faults ---

    async def _hand_of(self, store: Store, mailer: MailerProcess) -> frozenset[str]:
        """What a stopped mailer has in hand, as soon as Redis tells."""
        while True:
            with contextlib.suppress(StoreError):
                names = [name for name in await _workers(store) if f"-{mailer.pid}-" in name]
                keys = [MAIL_TAKEN.key(tag="mail", worker=name) for name in names]
                hands = Call(tuple(command("LRANGE", key, 0, -1) for key in keys), list)
                return frozenset(one.decode() for hand in await store.run(hands) for one in hand)
            await asyncio.sleep(0.1)

    async def _freeze(self, store: Store) -> tuple[str, MailerProcess, int]:
        """Stop a mailer, one that has something in hand if there is one; its hand is written down."""
        awake = [name for name in self._mailers if name != self._stopped]
        names = self._random.sample(awake, len(awake))
        for name in names:
            mailer = self._mailers[name]
            mailer.signal(signal.SIGSTOP)
            hand = await self._hand_of(store, mailer)
            if hand or name == names[-1]:
                self.books.deaths.append(Death(name, time.time(), hand))
                self.books.note(f"{name} stopped or killed")
                return name, mailer, len(hand)
            mailer.signal(signal.SIGCONT)
        raise AssertionError("there are mailers")

    async def _kill(self, store: Store) -> None:
        async with self._one_at_a_time:
            name, mailer, in_hand = await self._freeze(store)
            mailer.kill()
            mailer.start()
        self._report(f"kill -9 of {name}: {in_hand} in hand")

    async def _stop(self, store: Store) -> None:
        async with self._one_at_a_time:
            name, mailer, in_hand = await self._freeze(store)
            self._stopped = name
        await asyncio.sleep(self._plan.stop)
        mailer.signal(signal.SIGCONT)
        self._stopped = ""
        self._report(f"SIGSTOP of {name} for {self._plan.stop:.0f} s: {in_hand} in hand")

    async def _restart_redis(self, store: Store) -> None:
        before = await _jobs_kept(store)
        self._redis.kill()
        self.books.note("Redis killed")
        await asyncio.sleep(self._plan.redis_down)
        await asyncio.to_thread(self._redis.start)
        self._report(
            f"Redis killed with about {before} jobs, restarted with its AOF after {self._plan.redis_down:.0f} s"
        )

    async def _fill_redis(self, _store: Store) -> None:
        before, used = self._refusals, int(self._redis.ask("INFO", "memory")["used_memory"])
        self._redis.ask("CONFIG", "SET", "maxmemory", used)
        await asyncio.sleep(self._plan.full)
        self._redis.ask("CONFIG", "SET", "maxmemory", 0)
        self._report(
            f"Redis full for {self._plan.full:.0f} s (noeviction): {self._refusals - before} hand-overs refused"
        )

    async def _drop_smtp(self, _store: Store) -> None:
        await self._smtp.stop()
        await asyncio.sleep(self._plan.smtp_down)
        await self._smtp.start()
        self._report(f"mail server down for {self._plan.smtp_down:.0f} s")

    # --- the whole ---

    async def run(self) -> Books:
        """Carry the plan out and give the books, with what the logs say written in."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._redis)
            await stack.enter_async_context(self._smtp)
            store = await stack.enter_async_context(Store(self._redis.url))
            for number in range(MAILERS):
                name = f"mailer-{number}@broker.example"
                mailer = MailerProcess(self._redis.url, self._smtp.port, from_address=name, log_level="info")
                self._mailers[name] = stack.enter_context(mailer)
            for mailer in self._mailers.values():
                await mailer.until_registered()
            await self._faults(store)
            await until(lambda: is_done(store), bound=600, what="every job ends")
        for name, mailer in self._mailers.items():
            self.books.read_log(name, mailer.log.read_text())
        for stage, number in sorted(self.books.served.items()):
            self._report(f"mail server, all along: {number} {stage}")
        return self.books

    async def _faults(self, store: Store) -> None:
        faults: list[Callable[[Store], Awaitable[None]]] = [
            self._kill, self._stop, self._restart_redis, self._fill_redis, self._drop_smtp,
        ]  # fmt: skip
        share = self._plan.jobs // (len(faults) * self._plan.rounds)
        async with _in_background(self._keep_killing(store)):
            for _ in range(self._plan.rounds):
                self._random.shuffle(faults)
                for fault in faults:
                    await self._hand_over(store, share // 2)
                    failing = asyncio.ensure_future(fault(store))
                    await asyncio.sleep(self._random.uniform(0, 1))
                    await asyncio.gather(failing, self._hand_over(store, share - share // 2))
                    await until(lambda: self._has_few(store, share // 2), bound=600, what="the backlog goes down")

    async def _keep_killing(self, store: Store) -> None:
        """Kill a mailer now and then, whatever else goes on."""
        while True:
            await asyncio.sleep(self._plan.kill_every * self._random.uniform(0.5, 1.5))
            # Whoever was killed has to be back: on a busy machine a start may take longer than a life.
            await until(lambda: self._all_registered(store), bound=120, what="killed mailers are back")
            await self._kill(store)

    async def _all_registered(self, store: Store) -> bool:
        with contextlib.suppress(StoreError):
            names = await _workers(store)
            return all(any(f"-{mailer.pid}-" in name for name in names) for mailer in self._mailers.values())
        return False

    async def _has_few(self, store: Store, number: int) -> bool:
        with contextlib.suppress(StoreError):
            return await _jobs_kept(store) <= number
        return False


async def _jobs_kept(store: Store) -> int:
    count: Call[int] = Call((command("HLEN", MAIL_JOBS.key(tag="mail")),), lambda replies: replies[0])
    return await store.run(count)


async def _workers(store: Store) -> list[str]:
    """Name the workers that hold a lease."""
    leases = Call((command("ZRANGE", MAIL_LEASES.key(tag="mail"), 0, -1),), lambda replies: replies[0])
    return [name.decode() for name in await store.run(leases)]


@contextlib.asynccontextmanager
async def _in_background(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def closing_line(books: Books, report: Callable[[str], None]) -> tuple[int, int, int]:
    """Tell how it went; gives how many were lost, late, and sent twice for no reason that is known."""
    why = Counter(reason for job_id in books.accepted for reason in books.explain(job_id))
    unexplained = why.pop(None, 0)
    for reason, number in why.items():
        report(f"duplicates: {number} {reason}")
    for reason, number in Counter(books.dead.values()).items():
        report(f"dead: {number} {reason}")
    report(f"jobs {len(books.jobs)}, delivered {len(books.accepted)}, of {len(books.replaced_by)} logins a newer mail")
    outcome = len(books.lost), len(books.late), unexplained
    report("lost {}, late {}, unexplained duplicates {}".format(*outcome))
    return outcome

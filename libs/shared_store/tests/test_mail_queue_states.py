"""The mail queue as a state machine against a real server: nothing is lost, nothing is in two places."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared_store.commands import Call, command
from shared_store.dead_letters import DeadJob
from shared_store.errors import QueueFull
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.store import Store
from shared_store.testing.deployments import Deployment

T = TypeVar("T")
WORKERS = st.sampled_from(["w0", "w1", "w2"])
# Some of no login, and some of two logins, of which one at a time may be anywhere but behind another.
LOGINS = ["a" * 32, "b" * 32]
IDS = st.sampled_from([*(f"job-{number}" for number in range(5)), *(f"{login}-{n}" for login in LOGINS for n in "123")])
TWICE = st.booleans()  # whether the call is sent again, as after a lost reply
BOUND = 6


def job(job_id: str) -> MailJob:
    return MailJob(job_id, "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


class QueueMachine(RuleBasedStateMachine):
    """What the queue should hold, beside a queue that holds it."""

    def __init__(self, where: Deployment) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store(where.url, where.options)
        self.queue = MailQueue("machine")
        self.wait(self.store.client.flushall())
        self.ready: set[str] = set()
        self.due: set[str] = set()
        self.later: set[str] = set()
        self.hands: dict[str, set[str]] = {"w0": set(), "w1": set(), "w2": set()}
        self.leases: set[str] = set()
        self.expired: set[str] = set()
        self.done: set[str] = set()
        self.behind: dict[str, str] = {}  # job in hand to the newer one that waits until it is not

    def wait(self, work: object) -> object:
        async def run() -> object:
            return await work  # type: ignore[misc]

        return self.runner.run(run())

    def run_call(self, call: Call[T]) -> T:
        return self.runner.run(self.store.run(call))

    @property
    def live(self) -> set[str]:
        return self.ready | self.due | self.later | set().union(*self.hands.values(), self.behind.values())

    def older(self, job_id: str) -> str | None:
        """The job of the same login that is in the queue, but for one behind it."""
        login = job_id[:32]
        others = self.live - set(self.behind.values())
        return next((other for other in others if other[:32] == login), None) if login in LOGINS else None

    @rule(job_id=IDS, twice=TWICE)
    def enqueue(self, job_id: str, twice: bool) -> None:
        full = len(self.ready | self.due | self.later) >= BOUND
        known = job_id in self.live or job_id in self.done
        try:
            self.run_call(self.queue.enqueue(job(job_id), bound=BOUND))
            if twice:
                self.run_call(self.queue.enqueue(job(job_id), bound=BOUND))
        except QueueFull:
            assert full
            assert not known
        else:
            older = self.older(job_id)
            assert known or older or not full
            if not known and older:
                self.replace(older, job_id)
            elif not known:
                self.ready.add(job_id)

    def replace(self, older: str, job_id: str) -> None:
        for place in (self.ready, self.due, self.later):
            if older in place:
                place.remove(older)
                place.add(job_id)
                return
        self.behind[older] = job_id

    @precondition(lambda self: self.ready)
    @rule(worker=WORKERS)
    def take(self, worker: str) -> None:
        if worker not in self.leases:
            return
        assert self.runner.run(self.queue.wait_for_job(self.store, worker, block=5))
        [moved] = self.hand(worker) - self.hands[worker]
        self.ready.remove(moved)
        self.hands[worker].add(moved)

    @rule(worker=WORKERS, room=st.integers(0, 4), knows=st.booleans(), twice=TWICE)
    def claim(self, worker: str, room: int, knows: bool, twice: bool) -> None:
        known = self.hands[worker] if knows else set()
        call = self.queue.claim(worker, room=room, known=known)
        claimed = self.run_call(call)
        if worker not in self.leases:
            assert claimed is None
            return
        assert claimed is not None
        if twice:
            again = self.run_call(call)
            assert again is not None
            assert again.jobs == claimed.jobs
        ids = {found.id for found in claimed.jobs}
        news = ids - self.hands[worker]
        assert ids - news == self.hands[worker] - known
        assert news <= self.ready
        assert len(news) == max(0, min(room - len(self.hands[worker]), len(self.ready)))
        assert all(found.raw == job(found.id).to_json().encode() for found in claimed.jobs)
        self.ready -= news
        self.hands[worker] |= news

    @rule(worker=WORKERS, job_id=IDS, bury=st.booleans(), twice=TWICE)
    def finish(self, worker: str, job_id: str, bury: bool, twice: bool) -> None:
        dead = DeadJob.of(job(job_id), "expired", 1.0)
        call = (
            self.queue.bury(worker, dead, Outcome.FAILED)
            if bury
            else self.queue.finish(worker, job_id, Outcome.DELIVERED)
        )
        assert self.run_call(call) == (job_id in self.hands[worker])
        if twice:
            self.run_call(call)
        if job_id in self.hands[worker]:
            self.hands[worker].remove(job_id)
            self.done.add(job_id)
            if newer := self.behind.pop(job_id, None):
                self.ready.add(newer)

    @rule(worker=WORKERS, job_id=IDS, due=st.booleans(), twice=TWICE)
    def delay(self, worker: str, job_id: str, due: bool, twice: bool) -> None:
        call = self.queue.delay(worker, job(job_id), seconds=-1 if due else 3600)
        assert self.run_call(call) == (job_id in self.hands[worker])
        if twice:
            self.run_call(call)
        if job_id in self.hands[worker]:
            self.hands[worker].remove(job_id)
            (self.due if due else self.later).add(self.behind.pop(job_id, job_id))

    @rule(twice=TWICE)
    def promote(self, twice: bool) -> None:
        assert self.run_call(self.queue.promote()) == len(self.due)
        if twice:
            assert self.run_call(self.queue.promote()) == 0
        self.ready |= self.due
        self.due = set()

    @rule(job_id=IDS, twice=TWICE)
    def retry_now(self, job_id: str, twice: bool) -> None:
        for _ in range(1 + twice):
            assert self.run_call(self.queue.retry_now(job_id)) == (job_id in self.ready | self.due | self.later)
        if job_id in self.due | self.later:
            self.due.discard(job_id)
            self.later.discard(job_id)
            self.ready.add(job_id)

    @rule(job_id=IDS, twice=TWICE)
    def drop(self, job_id: str, twice: bool) -> None:
        waits = job_id in self.ready | self.due | self.later | set(self.behind.values())
        assert self.run_call(self.queue.drop(job_id)) == waits
        if twice:
            assert not self.run_call(self.queue.drop(job_id))
        for place in (self.ready, self.due, self.later):
            place.discard(job_id)
        self.behind = {first: newer for first, newer in self.behind.items() if newer != job_id}

    @rule(worker=WORKERS)
    def register(self, worker: str) -> None:
        self.run_call(self.queue.register(worker, lease=3600))
        self.leases.add(worker)
        self.expired.discard(worker)

    @rule(worker=WORKERS, alive=st.booleans())
    def renew(self, worker: str, alive: bool) -> None:
        assert self.run_call(self.queue.renew(worker, lease=3600 if alive else -1)) == (worker in self.leases)
        if worker in self.leases:
            (self.expired.discard if alive else self.expired.add)(worker)

    @rule(worker=WORKERS, twice=TWICE)
    def reap(self, worker: str, twice: bool) -> None:
        moved = self.run_call(self.queue.reap(worker))
        if twice:
            self.run_call(self.queue.reap(worker))
        if worker in self.leases - self.expired:
            assert moved == -1
            return
        assert moved == len(self.hands[worker])
        self.empty_hand(worker)

    @rule(worker=WORKERS, twice=TWICE)
    def give_back(self, worker: str, twice: bool) -> None:
        assert self.run_call(self.queue.give_back(worker)) == len(self.hands[worker])
        if twice:
            assert self.run_call(self.queue.give_back(worker)) == 0
        self.empty_hand(worker)

    def empty_hand(self, worker: str) -> None:
        self.ready |= {self.behind.pop(job_id, job_id) for job_id in self.hands[worker]}
        self.hands[worker] = set()
        self.leases.discard(worker)
        self.expired.discard(worker)

    def hand(self, worker: str) -> set[str]:
        key = f"mail:{{machine}}:taken:{worker}"
        ids = self.run_call(Call((command("LRANGE", key, 0, -1),), lambda replies: replies[0]))
        return {job_id.decode() for job_id in ids}

    @invariant()
    def redis_holds_what_it_should(self) -> None:
        places = (
            command("LRANGE", "mail:{machine}:ready", 0, -1),
            command("ZRANGE", "mail:{machine}:delayed", 0, -1),
            command("HKEYS", "mail:{machine}:jobs"),
            command("ZRANGE", "mail:{machine}:leases", 0, -1),
            command("HKEYS", "mail:{machine}:deaths"),
            command("HVALS", "mail:{machine}:logins"),
            *(command("LRANGE", f"mail:{{machine}}:taken:{worker}", 0, -1) for worker in self.hands),
        )
        ready, delayed, jobs, leases, deaths, logins, *hands = self.run_call(Call(places, list))
        assert sorted(ready) == sorted(name.encode() for name in self.ready)
        assert set(delayed) == {name.encode() for name in self.due | self.later}
        assert set(jobs) == {name.encode() for name in self.live}
        assert set(leases) == {name.encode() for name in self.leases}
        assert set(deaths) <= set(jobs)
        firsts = {job_id for job_id in self.live - set(self.behind.values()) if job_id[:32] in LOGINS}
        assert sorted(logins) == sorted(f"{one} {self.behind.get(one, '')}".strip().encode() for one in firsts)
        for ids, expected in zip(hands, self.hands.values(), strict=True):
            assert sorted(ids) == sorted(name.encode() for name in expected)
        assert set(self.run_call(self.queue.expired_workers())) == self.expired

    def teardown(self) -> None:
        """Work through everything that is left; then the queue's keys have to be gone."""
        for worker in self.hands:
            self.run_call(self.queue.give_back(worker))
            self.empty_hand(worker)
        self.run_call(self.queue.register("w0", lease=3600))
        for job_id in self.due | self.later:
            self.run_call(self.queue.retry_now(job_id))
        claimed = self.run_call(self.queue.claim("w0", room=100, known=[]))
        assert claimed is not None
        assert {found.id for found in claimed.jobs} == self.live
        for found in claimed.jobs:
            assert self.run_call(self.queue.finish("w0", found.id, Outcome.DELIVERED))
        self.run_call(self.queue.give_back("w0"))
        names = ("ready", "delayed", "jobs", "leases", "deaths", "logins", "taken:w0", "taken:w1", "taken:w2")
        keys = [f"mail:{{machine}}:{name}" for name in names]
        assert self.run_call(Call((command("EXISTS", *keys),), lambda replies: replies[0])) == 0
        self.runner.run(self.store.aclose())
        self.runner.close()


def test_every_job_is_in_exactly_one_place_whatever_is_done_in_whatever_order(any_server: Deployment) -> None:
    run_state_machine_as_test(
        lambda: QueueMachine(any_server),  # type: ignore[arg-type]  # a class is called, too
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

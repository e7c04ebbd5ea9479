"""What Redis may lose at any time: subscriptions and scripts, while people log in; and Redis at start."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from tests.faults.broker import Broker, Service, broker, is_told
from tests.stack import until

from shared_store.testing.servers import RedisServer, free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

TELL_EVERY = 5.0  # seconds, as the services have it
AT_START = 20  # lines in which a service may say where it is before it has to slow down


@pytest.fixture
def running(whole: Broker) -> Iterator[Broker]:
    yield whole
    assert whole.nobody_died()
    whole.until_ready()
    for service in whole.services:
        assert "Traceback" not in service.log.read_text()


@contextlib.contextmanager
def again_and_again(do: Callable[[], object], *, every: float) -> Iterator[Callable[[], int]]:
    """Do something every so many seconds while the block runs; tells how often that was."""
    over, times = threading.Event(), 0

    def repeat() -> None:
        nonlocal times
        while not over.is_set():
            do()
            times += 1
            over.wait(every)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield lambda: times
    finally:
        over.set()
        thread.join(10)


@pytest.mark.fault(
    row="pub/sub message lost",
    cause="CLIENT KILL TYPE pubsub every 50 ms while people log in, while a key is rotated, and while one is revoked",
    auth_api="logins end; a refused address is told on the page by `result:`; keys.json follows both by looking",
    mailer="sends all the same",
    key_rotator="goes on",
)
def test_subscriptions_that_are_cut_again_and_again_cost_no_login_and_no_change_of_keys(running: Broker) -> None:
    [rotator, _] = running.rotators
    with again_and_again(lambda: running.redis.ask("CLIENT", "KILL", "TYPE", "pubsub"), every=0.05) as times:
        for number in range(5):
            running.log_in(f"deaf-{number}@example.org")
            refused = running.begin(f"nobody-{number}@example.org")
            assert refused.status_code == 400, "the outcome is told within mail_wait, though nobody hears of it"
            assert "nobody-" in refused.text
        before = running.kids()
        rotator.does("rotate", "--now")
        until(lambda: running.kids(0)[0] == running.kids(1)[0] == before[1], bound=60)
        rotator.does("revoke", before[1])
        until(lambda: not {before[1]} & {*running.kids(0), *running.kids(1)}, bound=60)
        assert running.kids(0) == running.kids(1)
        running.log_in("deaf-after@example.org")
        assert times() > 50
    for service in running.services:
        assert service.is_ready()


@pytest.mark.fault(
    row="script cache flushed",
    cause="SCRIPT FLUSH every 20 ms while people log in and keys are rotated",
    auth_api="nobody notices: every login ends, no error",
    mailer="every mail comes, once",
    key_rotator="the rotation is made",
)
def test_scripts_that_are_flushed_again_and_again_are_noticed_by_nobody(running: Broker) -> None:
    before = running.kids()
    errors = [len(service.lines('"level": "error"')) for service in running.services]
    with again_and_again(lambda: running.redis.ask("SCRIPT", "FLUSH"), every=0.02) as times:
        for number in range(10):
            running.log_in(f"flushed-{number}@example.org")
        running.rotators[1].does("rotate", "--now")
        until(lambda: running.kids(0)[0] == running.kids(1)[0] == before[1], bound=60)
        running.log_in("flushed-after@example.org")
        assert times() > 50
    assert [running.mailbox.count(f"flushed-{number}@example.org") for number in range(10)] == [1] * 10
    assert [len(service.lines('"level": "error"')) for service in running.services] == errors
    for api in running.apis:
        assert not api.lines("store_unavailable")
        assert not api.lines("store_away")


def times_told(service: Service) -> list[float]:
    """When it said that Redis is away (Unix seconds)."""
    events = ("store_away", "keys_not_looked_after")
    return [
        datetime.fromisoformat(line["timestamp"]).timestamp() for line in service.lines() if line["event"] in events
    ]


@pytest.mark.fault(
    row="Redis down at start",
    cause="all services are started against a port on which nothing listens; after 20 s Redis appears there",
    auth_api="stays up, not ready, says so about each 5 s; /auth 503, keys.json 503; then ready, and a login works",
    mailer="stays up, not ready, says so about each 5 s; then ready and sends",
    key_rotator="stays up, not ready, says so about each 5 s; then makes keys",
)
def test_services_started_without_redis_say_so_now_and_then_and_work_once_it_is_there(tmp_path: Path) -> None:
    late = RedisServer("valkey9", port=free_port())
    with contextlib.ExitStack() as stack:
        nowhere = contextlib.nullcontext(late)  # its address is known, it has not been started
        running = stack.enter_context(broker(tmp_path, server=nowhere, starts=False))
        for service in running.services:
            until(lambda service=service: service.says("can't be reached"))  # type: ignore[misc]
            until(lambda service=service: len(times_told(service)) > AT_START or _told_for(service) > 15, bound=60)  # type: ignore[misc]
        assert running.nobody_died()
        for api in range(2):
            assert is_told(running.begin("early@example.org", api=api))
        for service in running.services:
            told = times_told(service)
            gaps = [later - earlier for earlier, later in pairwise(told)]
            assert max(gaps) < 3 * TELL_EVERY, "it says so again and again"
            assert len(told) <= 4 + 2 * _told_for(service) / TELL_EVERY, "and not without end"
            everything = [line for line in service.lines() if line["level"] in {"warning", "error"}]
            assert len(everything) <= AT_START + len(told)
        stack.enter_context(late)
        running.until_ready()
        running.log_in("late@example.org")
        assert running.nobody_died()
        for service in running.services:
            assert "Traceback" not in service.log.read_text()


def _told_for(service: Service) -> float:
    told = times_told(service)
    return told[-1] - told[0] if told else 0.0

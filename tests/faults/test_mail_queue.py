"""Jobs lie in the queue that nobody can read, or that only a newer mailer can, at every place where a job may lie."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests.faults.broker import Broker
from tests.stack import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

JOBS, READY, DELAYED, DEAD, LEASES = (
    f"mail:{{mail}}:{name}" for name in ("jobs", "ready", "delayed", "dead", "leases")
)
MANY, KEPT = 1_500, 1_000
HUGE = b"x" * 5_000_000
MALFORMED: dict[str, bytes | None] = {
    "nothing": None,
    "binary": b"\xff\x00\xfe",
    "cut": b'{"v": 1, "event": "login.requested", "id": "cut',
    "list": b"[]",
    "number": b"1e999",
    "nested": b"[" * 100_000,
    "text-version": b'{"v": "1", "event": "login.requested"}',
    "version-zero": b'{"v": 0, "event": "login.requested"}',
    "other-event": b'{"v": 1, "event": "login.cancelled"}',
    "no-fields": b'{"v": 1, "event": "login.requested"}',
    "huge": HUGE,
    "huge-json": json.dumps({"v": 1, "event": "login.requested", "id": HUGE.decode()}).encode(),
    "\udcff\udcfe": b"junk under an id that is junk",
}
NEWER = json.dumps({"v": 99, "event": "login.requested", "deadline": time.time() + 3600, "colour": "blue"}).encode()


@pytest.fixture
def running(whole: Broker) -> Iterator[Broker]:
    """The module's services, with an empty queue when a test is over."""
    yield whole
    whole.redis.ask("DEL", JOBS, READY, DELAYED, DEAD)
    assert whole.nobody_died()


Place = Callable[[Broker, bytes], None]


def make_ready(running: Broker, name: bytes) -> None:
    running.redis.ask("LPUSH", READY, name)


def delay(running: Broker, name: bytes) -> None:
    running.redis.ask("ZADD", DELAYED, 1, name)


def give_to_a_worker(running: Broker, name: bytes) -> None:
    """Into the hand of a mailer that lives, behind its back."""
    worker = running.redis.ask("ZRANGE", LEASES, 0, 0)[0].decode()
    running.redis.ask("LPUSH", f"mail:{{mail}}:taken:{worker}", name)


def give_to_a_dead_worker(running: Broker, name: bytes) -> None:
    """Into a hand whose lease has ended."""
    running.redis.ask("ZADD", LEASES, 1, "somebody-dead")
    running.redis.ask("LPUSH", "mail:{mail}:taken:somebody-dead", name)


PLACES = [make_ready, delay, give_to_a_worker, give_to_a_dead_worker]


def put(running: Broker, place: Place, name: str, raw: bytes | None) -> None:
    octets = name.encode("utf-8", "surrogateescape")
    if raw is not None:
        running.redis.ask("HSET", JOBS, octets, raw)
    place(running, octets)


def dead(running: Broker) -> list[dict[str, object]]:
    return [json.loads(entry) for entry in running.redis.ask("LRANGE", DEAD, 0, -1)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.fault(
    row="malformed job in the queue",
    cause="junk of many kinds, 5 MB of it too, is ready, delayed, in a living mailer's hand and in a dead one's",
    auth_api="a login behind them ends",
    mailer="each is buried as malformed, its content is kept nowhere; the workers go on",
    key_rotator="-",
)
def test_junk_is_buried_wherever_it_lies(running: Broker, place: Place) -> None:
    for name, raw in MALFORMED.items():
        put(running, place, name, raw)
    running.log_in(f"behind-{place.__name__}@example.org")
    until(lambda: len(dead(running)) == len(MALFORMED))
    assert {letter["reason"] for letter in dead(running)} == {"malformed"}
    until(lambda: not running.mails_waiting())
    assert sum(len(entry) for entry in running.redis.ask("LRANGE", DEAD, 0, -1)) < 100_000


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.fault(
    row="a newer job version after a rolling update",
    cause="a job of version 99 is ready, delayed, in a living mailer's hand and in a dead one's",
    auth_api="a login behind it ends",
    mailer="left for a newer mailer, as it was, not buried",
    key_rotator="-",
)
def test_newer_job_is_left_for_a_newer_mailer_wherever_it_lies(running: Broker, place: Place) -> None:
    put(running, place, "newer", NEWER)
    until(lambda: float(running.redis.ask("ZSCORE", DELAYED, "newer") or 0) > 1)
    running.log_in(f"newer-{place.__name__}@example.org")
    assert running.redis.ask("HGET", JOBS, "newer") == NEWER
    assert dead(running) == []


@pytest.mark.fault(
    row="malformed job in the queue",
    cause="1,500 malformed jobs at once",
    auth_api="a login behind them ends",
    mailer="the latest 1,000 are kept among the dead, all are counted",
    key_rotator="-",
)
def test_many_malformed_jobs_keep_nobody_from_logging_in(running: Broker) -> None:
    before = running.sent("mailer_given_up_total", reason="malformed")
    names = [f"odd{number}" for number in range(MANY)]
    running.redis.ask("HSET", JOBS, *(word for name in names for word in (name, "odd")))
    running.redis.ask("LPUSH", READY, *names)
    running.log_in("behind-many@example.org")
    until(lambda: running.sent("mailer_given_up_total", reason="malformed") - before == MANY)
    assert len(dead(running)) == KEPT
    assert not running.mails_waiting()

"""Processes are killed with work in hand, and asked to stop with work in hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.faults.broker import Broker, Service, broker
from tests.stack import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

KEYS, LOCK, JOBS = "keys:{RS256}", "lock:{rotate-RS256}", "mail:{mail}:jobs"
MAKES_NO_KEY = "sleep 300"  # a generate_rsa_command during which its key-rotator has the lock


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    # A page waits for its mail for longer than a test needs to do something meanwhile.
    with broker(tmp_path_factory.mktemp("broker"), mail_wait=10) as running:
        yield running


@pytest.fixture
def running(whole: Broker) -> Iterator[Broker]:
    """The module's services, all of them up again when a test is over."""
    yield whole
    whole.mailbox.delay = 0.0
    for service in whole.services:
        if service.process.poll() is not None:
            service.start()
    whole.until_ready()
    for service in whole.services:
        assert "Traceback" not in service.log.read_text()


def has_in_hand(running: Broker) -> Service:
    """Which mailer has a mail in hand."""

    def found() -> Service | None:
        hands = [key.decode() for key in running.redis.ask("KEYS", "mail:{mail}:taken:*")]
        return next(
            (one for one in running.mailers if any(f"-{one.process.pid}-" in hand for hand in hands)), None
        )  # a name has the process id in it

    mailer: Service = until(found)
    return mailer


def alone_with_a_lock(running: Broker) -> Service:
    """A key-rotator that makes the first keys for ever, under the lock; no other one runs, and none remembers keys."""
    for rotator in running.rotators:
        rotator.end()
    running.redis.ask("DEL", KEYS, LOCK)
    rotator = running.rotators[0]
    rotator.environ["BROKER_GENERATE_RSA_COMMAND"] = MAKES_NO_KEY
    try:
        rotator.start()
    finally:
        del rotator.environ["BROKER_GENERATE_RSA_COMMAND"]
    until(lambda: running.redis.ask("EXISTS", LOCK))
    return rotator


@pytest.mark.fault(
    row="SIGKILL",
    cause="SIGKILL of one auth-api with a login in flight, and while another waits for its page",
    auth_api="the other one ends both logins",
    mailer="-",
    key_rotator="-",
)
def test_logins_of_a_killed_auth_api_end_at_the_other(running: Broker) -> None:
    assert running.begin("kill@example.org").status_code == 200
    running.mailbox.delay, begun = 6.0, running.mailbox.begun
    with ThreadPoolExecutor() as people:
        people.submit(running.begin, "waits@example.org")
        until(lambda: running.mailbox.begun > begun)
        running.apis[0].end()
    for address in ("kill@example.org", "waits@example.org"):
        assert running.confirm(address, api=1).status_code == 200


@pytest.mark.fault(
    row="SIGKILL",
    cause="SIGKILL of the mailer that has a mail in hand, kept waiting by the mail server; it is not started again",
    auth_api="the page comes after mail_wait; the code in the mail works",
    mailer="the other takes the mail over once the killed one's lease is over, and sends it: measured after 14 to 17 s",
    key_rotator="-",
)
def test_mail_in_the_hand_of_a_killed_mailer_is_sent_by_the_other(running: Broker) -> None:
    running.mailbox.delay, begun = 60.0, running.mailbox.begun
    with ThreadPoolExecutor() as people:
        asked = people.submit(running.begin, "held@example.org")
        until(lambda: running.mailbox.begun > begun)
        killed = has_in_hand(running)
        running.mailbox.delay = 0.0
        killed.end()
        died = time.monotonic()
        running.mailbox.wait_for("held@example.org")
        print(f"sent by the other mailer {time.monotonic() - died:.1f} s after the death of the first")
        assert asked.result().status_code == 200
    assert killed.process.poll() is not None
    until(lambda: not running.redis.ask("HLEN", JOBS))
    assert running.confirm("held@example.org").status_code == 200
    assert running.mailbox.count("held@example.org") == 1
    [other] = [mailer for mailer in running.mailers if mailer is not killed]
    assert other.lines("worker_reaped")
    assert other.is_ready()


@pytest.mark.fault(
    row="SIGKILL",
    cause="SIGKILL of a key-rotator that makes the first keys under the lock; another is started",
    auth_api="takes the new keys; logins go on",
    mailer="-",
    key_rotator="the lock ends by itself within 30 s; the other makes the keys, once",
)
def test_lock_of_a_killed_rotator_ends_and_another_does_its_work(running: Broker) -> None:
    before = running.kids()
    killed = alone_with_a_lock(running)
    killed.end()
    assert 0 < running.redis.ask("PTTL", LOCK) <= 30_000
    running.rotators[1].start()
    until(lambda: running.redis.ask("EXISTS", KEYS), bound=60)
    until(lambda: running.kids(0) == running.kids(1) != before)
    assert len(running.kids()) == 2
    log = [entry.decode() for entry in running.redis.ask("LRANGE", "key-log:{RS256}", 0, -1)]
    assert f'"kid": "{running.kids()[0]}"' in log[0]
    assert running.rotators[1].is_ready()
    running.log_in("unlocked@example.org")


@pytest.mark.fault(
    row="SIGTERM",
    cause="SIGTERM of an auth-api while a person waits for their page",
    auth_api="that page comes, the login can be ended at the other, exit 0",
    mailer="-",
    key_rotator="-",
)
def test_auth_api_that_is_asked_to_stop_answers_who_waits(running: Broker) -> None:
    running.mailbox.delay, begun = 4.0, running.mailbox.begun
    with ThreadPoolExecutor() as people:
        asked = people.submit(running.begin, "term@example.org")
        until(lambda: running.mailbox.begun > begun)
        running.apis[0].process.terminate()
        assert running.apis[0].process.wait(25) == 0
        page = asked.result()
    assert page.status_code == 200
    assert 'name="code"' in page.text
    assert running.confirm("term@example.org", api=1).status_code == 200
    running.mailbox.delay = 0.0
    assert running.begin("goes-on@example.org", api=1).status_code == 200


@pytest.mark.fault(
    row="SIGTERM",
    cause="SIGTERM of the mailer that has a mail in hand",
    auth_api="-",
    mailer="that mail is sent, once; nothing is given back; exit 0; the other sends what comes",
    key_rotator="-",
)
def test_mailer_that_is_asked_to_stop_sends_what_it_has_in_hand(running: Broker) -> None:
    running.mailbox.delay, begun = 5.0, running.mailbox.begun
    with ThreadPoolExecutor() as people:
        asked = people.submit(running.begin, "in-hand@example.org")
        until(lambda: running.mailbox.begun > begun)
        stopping = has_in_hand(running)
        stopping.process.terminate()
        assert stopping.process.wait(25) == 0
        assert running.mailbox.count("in-hand@example.org") == 1
        assert not running.redis.ask("HLEN", JOBS)
        assert asked.result().status_code == 200
    assert stopping.lines("worker_left")[-1]["given_back"] == 0
    running.mailbox.delay = 0.0
    assert running.confirm("in-hand@example.org").status_code == 200
    running.log_in("other-mailer@example.org")
    assert running.mailbox.count("in-hand@example.org") == 1


@pytest.mark.fault(
    row="SIGTERM",
    cause="SIGTERM of a key-rotator that makes keys under the lock",
    auth_api="-",
    mailer="-",
    key_rotator="exit 0, the lock is released; another makes the keys",
)
def test_rotator_that_is_asked_to_stop_leaves_no_lock_behind(running: Broker) -> None:
    stopping = alone_with_a_lock(running)
    stopping.process.terminate()
    assert stopping.process.wait(25) == 0
    assert not running.redis.ask("EXISTS", LOCK)
    running.rotators[1].start()
    until(lambda: running.redis.ask("EXISTS", KEYS), bound=60)
    until(lambda: len(running.kids(0)) == 2 and running.kids(0) == running.kids(1))
    running.log_in("stopped@example.org")

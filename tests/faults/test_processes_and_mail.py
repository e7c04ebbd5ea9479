"""Processes are killed, stopped, have a wrong clock; junk lies in Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from tests.faults.broker import Broker, Service, broker, is_told
from tests.stack import until

from shared_store.testing.servers import free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# Debian's package faketime: make system-packages.
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "libfaketime is missing")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def running(whole: Broker) -> Iterator[Broker]:
    """The module's services, all of them up again when a test is over."""
    yield whole
    for service in whole.services:
        if service.process.poll() is not None:
            service.start()
    whole.until_ready()


@pytest.mark.fault(
    row="SIGKILL",
    cause="SIGKILL of one auth-api, then of both mailers with a mail in hand",
    auth_api="the other one ends the login",
    mailer="the mail comes once the killed one's lease is over; at most once more than once",
    key_rotator="the other goes on (services/key-rotator/tests/test_rotator_processes.py)",
)
def test_killed_processes_lose_no_login_and_no_mail(running: Broker) -> None:
    assert running.begin("kill@example.org").status_code == 200
    running.mailbox.wait_for("kill@example.org")
    running.apis[0].end()
    assert running.confirm("kill@example.org", api=1).status_code == 200
    running.mailbox.delay = 5.0
    assert running.begin("held@example.org", api=1).status_code == 200
    until(lambda: running.redis.ask("HLEN", "mail:{mail}:jobs"))
    for mailer in running.mailers:
        mailer.end()
    running.mailbox.delay = 0.0
    for mailer in running.mailers:
        mailer.start()
    running.mailbox.wait_for("held@example.org")
    until(lambda: not running.redis.ask("HLEN", "mail:{mail}:jobs"), bound=60)
    assert running.mailbox.count("held@example.org") <= 2


@pytest.mark.fault(
    row="SIGTERM",
    cause="SIGTERM of one of each service",
    auth_api="exit 0 within 20 s; the other goes on",
    mailer="exit 0 within 20 s; the other goes on",
    key_rotator="exit 0 within 20 s; the other goes on",
)
def test_services_that_are_asked_to_stop_end_in_their_time_and_the_others_go_on(running: Broker) -> None:
    stopping = [running.apis[0], running.mailers[0], running.rotators[0]]
    for service in stopping:
        service.process.terminate()
    assert [service.process.wait(25) for service in stopping] == [0, 0, 0]
    assert running.begin("term@example.org", api=1).status_code == 200
    assert running.confirm("term@example.org", api=1).status_code == 200


@pytest.mark.fault(
    row="clock of one host 10 min off",
    cause="libfaketime sets one auth-api's clock 10 minutes ahead",
    auth_api="the login that began elsewhere ends there, and iat is the server's time",
    mailer="-",
    key_rotator="-",
)
def test_auth_api_whose_clock_is_wrong_issues_tokens_in_the_servers_time(running: Broker) -> None:
    api = running.apis[1]
    right = dict(api.environ)
    api.end()
    api.environ |= {"LD_PRELOAD": FAKETIME, "FAKETIME": "+10m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    api.start()
    try:
        until(api.is_ready, bound=60)
        assert running.begin("clock@example.org").status_code == 200
        done = running.confirm("clock@example.org", api=1)
        token = done.text.partition('name="id_token" value="')[2].partition('"')[0]
        issued = jwt.decode(token, options={"verify_signature": False})["iat"]
        server = int(running.redis.ask("TIME")[0])
        assert abs(issued - server) < 60
    finally:
        api.end()
        api.environ = right
        api.start()


@pytest.mark.fault(
    row="huge values, binary junk under our keys",
    cause="a login's key holds 5 MB of binary junk, then is of another type",
    auth_api="503 with Retry-After, one line in the log; goes on",
    mailer="-",
    key_rotator="-",
)
def test_junk_under_a_logins_key_is_told_and_nothing_dies(running: Broker) -> None:
    for junk in (("HSET", "request", b"\xff\x00" * 2_500_000), ("SET", b"\xff" * 5_000_000)):
        running.begin("junk@example.org")
        key = f"login:{{{running.mailbox.wait_for('junk@example.org').session}}}"
        if junk[0] == "SET":
            running.redis.ask("DEL", key)
        running.redis.ask(junk[0], key, *junk[1:])
        told = running.confirm("junk@example.org")
        assert is_told(told), told.text
    assert running.nobody_died()
    running.log_in("sound@example.org")


@pytest.mark.fault(
    row="Redis down at start",
    cause="one of each service is started against a port on which nothing listens",
    auth_api="stays up, not ready, says so again and again; /auth 503",
    mailer="stays up, not ready, says so again and again",
    key_rotator="stays up, not ready, says so again and again",
)
def test_services_started_without_redis_stay_up_and_say_so(running: Broker) -> None:
    nowhere = {"BROKER_REDIS_URL": f"redis://127.0.0.1:{free_port()}", "BROKER_LISTEN_PORT": str(free_port())}
    folder = running.apis[0].log.parent
    started = [
        Service(service.module, folder / f"alone-{number}", service.environ | nowhere)
        for number, service in enumerate((running.apis[0], running.mailers[0], running.rotators[0]))
    ]
    try:
        for service in started:
            service.start()
        for service in started:
            until(lambda service=service: service.says("reached"))  # type: ignore[misc]
            until(lambda service=service: _tellings(service) >= 2)  # type: ignore[misc]
            assert service.process.poll() is None
        running.urls.append(f"http://127.0.0.1:{nowhere['BROKER_LISTEN_PORT']}")
        assert is_told(running.begin("nobody@example.org", api=2))
    finally:
        for service in started:
            os.kill(service.process.pid, signal.SIGKILL)
            service.process.wait(10)
        del running.urls[2:]


def _tellings(service: Service) -> int:
    """How often a service has said that it has no Redis."""
    told = service.log.read_text()
    return max(told.count(event) for event in ("store_away", "keys_not_looked_after"))

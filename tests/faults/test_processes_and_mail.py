"""Processes are killed, stopped, have a wrong clock; the mail server is slow or gone; junk lies in Redis."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from tests.faults.broker import Broker, Service, broker, is_told, open_smtp
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
    row="slow SMTP (30 s)",
    cause="the mail server answers the content of each mail after 7 s, longer than send_email_timeout",
    auth_api="the page comes after mail_wait",
    mailer="the mail is delivered once, in its time",
    key_rotator="-",
)
def test_slow_mail_server_delays_the_mail_and_not_the_page(running: Broker) -> None:
    running.mailbox.delay = 7.0
    try:
        page = running.begin("slow@example.org")
        assert page.status_code == 200
        assert running.mailbox.count("slow@example.org") == 0
        assert running.confirm("slow@example.org").status_code == 200
    finally:
        running.mailbox.delay = 0.0
    assert running.mailbox.count("slow@example.org") == 1


@pytest.mark.fault(
    row="SMTP down for minutes",
    cause="the mail server is stopped and started again",
    auth_api="the code page comes all the same",
    mailer="backs off and sends when it is there again",
    key_rotator="-",
)
def test_mail_asked_for_while_the_mail_server_was_away_comes_when_it_is_back(running: Broker) -> None:
    running.smtp.stop()
    try:
        assert running.begin("patient@example.org").status_code == 200
        until(lambda: any("mail_put_off" in mailer.log.read_text() for mailer in running.mailers))
    finally:
        running.smtp = open_smtp(running.mailbox, running.smtp.port)
    assert running.confirm("patient@example.org").status_code == 200
    assert running.mailbox.count("patient@example.org") == 1


@pytest.mark.fault(
    row="malformed job in the queue",
    cause="junk and a job of version 99 are pushed",
    auth_api="-",
    mailer="the malformed are buried as such, the worker goes on",
    key_rotator="-",
)
@pytest.mark.fault(
    row="a newer job version after a rolling update",
    cause="a job of version 99 is pushed",
    auth_api="-",
    mailer="left for a newer mailer, not buried",
    key_rotator="-",
)
def test_junk_in_the_queue_is_buried_and_what_a_newer_version_wrote_is_left(running: Broker) -> None:
    for name, text in {
        "junk": b"\xff\x00",
        "newer": json.dumps({"v": 99, "event": "login.requested"}).encode(),
    }.items():
        running.redis.ask("HSET", "mail:{mail}:jobs", name, text)  # type: ignore[arg-type]
        running.redis.ask("LPUSH", "mail:{mail}:ready", name)
    try:
        until(lambda: any(b"malformed" in entry for entry in running.redis.ask("LRANGE", "mail:{mail}:dead", 0, -1)))
        until(lambda: running.redis.ask("ZSCORE", "mail:{mail}:delayed", "newer") is not None)
        running.log_in("behind-the-junk@example.org")
    finally:
        running.redis.ask("DEL", "mail:{mail}:dead", "mail:{mail}:delayed")
        running.redis.ask("HDEL", "mail:{mail}:jobs", "newer")


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

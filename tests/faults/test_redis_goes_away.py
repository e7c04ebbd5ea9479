"""Redis dies, comes back, comes back empty, hangs, is full, can't write, is turned read-only, refuses."""

from __future__ import annotations

import time

import httpx
import pytest
from tests.faults.broker import Broker, is_told
from tests.stack import until

pytestmark = pytest.mark.timeout(240)


def test_each_service_tells_at_readyz_what_doctor_found(running: Broker) -> None:
    until(lambda: all(service.doctor().get("examined_at") for service in running.services), bound=30)
    for service in running.services:
        assert service.doctor()["error"] == []
        assert "memory_bound" in service.doctor()["warning"]


@pytest.mark.fault(
    row="Redis dies, comes back",
    cause="SIGKILL of Redis with a login in flight; started again",
    auth_api="/auth and /confirm 503 with Retry-After, JSON at /token; discovery, keys.json go on; the login ends",
    mailer="not ready with the reason; registers again by itself",
    key_rotator="not ready with the reason; the keys are the same",
)
def test_login_begun_before_redis_died_ends_after_it_is_back(running: Broker) -> None:
    assert running.begin("dies@example.org").status_code == 200
    mail, kids = running.mailbox.wait_for("dies@example.org"), running.kids()
    running.redis.kill()
    until(lambda: is_told(running.begin("nobody@example.org")))
    typed = {"session": mail.session, "code": mail.code, "device_ok": "1"}
    told = httpx.post(f"{running.urls[0]}/confirm", data=typed, timeout=30)
    assert is_told(told)
    assert f'value="{mail.code}"' in told.text
    token = httpx.post(
        f"{running.urls[0]}/token",
        data={"grant_type": "authorization_code", "code": "x", "client_id": "https://site.example",
              "redirect_uri": "https://site.example/back"},
        timeout=30,
    )  # fmt: skip
    assert is_told(token)
    assert token.json()["error"] == "temporarily_unavailable"
    assert running.kids() == kids
    assert httpx.get(f"{running.urls[1]}/.well-known/openid-configuration").status_code == 200
    for service in running.services:
        until(lambda service=service: service.says("reached"))  # type: ignore[misc]
    running.redis.start()
    began = time.monotonic()
    until(lambda: all(api.is_ready() for api in running.apis))
    print(f"auth-apis ready {time.monotonic() - began:.2f} s after Redis accepted connections")
    assert running.confirm("dies@example.org", api=1).status_code == 200
    running.until_ready()
    running.log_in("afterwards@example.org")


@pytest.mark.fault(
    row="Redis restarts empty",
    cause="FLUSHALL, SCRIPT FLUSH",
    auth_api="the old login is told as expired; scripts are loaded again; keys.json never loses the old keys",
    mailer="registers anew under another name, and sends",
    key_rotator="writes the keys back from memory: one current key, the same as before",
)
def test_old_login_is_expired_and_the_keys_are_written_back_after_redis_came_back_empty(running: Broker) -> None:
    running.begin("empty@example.org")
    mail, kids = running.mailbox.wait_for("empty@example.org"), running.kids()
    running.redis.ask("FLUSHALL")
    running.redis.ask("SCRIPT", "FLUSH")
    typed = {"session": mail.session, "code": mail.code, "device_ok": "1"}
    told = httpx.post(f"{running.urls[0]}/confirm", data=typed, timeout=30)
    assert told.status_code == 400
    assert "expired" in told.text
    until(lambda: running.redis.ask("EXISTS", "keys:{RS256}"), bound=60)
    assert set(kids) <= set(running.kids())
    assert running.kids(0)[0] == kids[0]
    until(lambda: running.kids(0) == running.kids(1))
    running.log_in("new@example.org")


@pytest.mark.fault(
    row="connection hangs (SIGSTOP)",
    cause="SIGSTOP of Redis, 100 requests, SIGCONT",
    auth_api="redis_timeout=2: the first request is told after 3.1 s, the 2nd after 0.08 s, the 100th after 0.06 s",
    mailer="not ready with the reason; goes on by itself",
    key_rotator="not ready with the reason; goes on by itself",
)
def test_hanging_redis_costs_the_first_request_its_time_out_and_the_hundredth_nothing(running: Broker) -> None:
    running.log_in("before@example.org")
    running.redis.pause()
    try:
        times = []
        for number in range(100):
            began = time.monotonic()
            assert is_told(running.begin(f"hang{number}@example.org"))
            times.append(time.monotonic() - began)
        print(f"503 while Redis hangs: 1st {times[0]:.3f} s, 2nd {times[1]:.3f} s, 100th {times[99]:.3f} s")
        for service in running.services:
            until(lambda service=service: service.says("in time"))  # type: ignore[misc]
    finally:
        running.redis.resume()
    running.until_ready()
    running.log_in("after@example.org")


@pytest.mark.fault(
    row="full (`OOM`) with `noeviction`",
    cause="maxmemory 1 with a login in flight",
    auth_api="new logins 503 with Retry-After 30; the login in flight ends",
    mailer="keeps its lease, drains (services/mailer/tests/test_whole_mailers.py)",
    key_rotator="stays up",
)
def test_full_redis_refuses_new_logins_and_lets_the_one_in_flight_end(running: Broker) -> None:
    running.begin("full@example.org")
    running.mailbox.wait_for("full@example.org")
    running.redis.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        told = running.begin("late@example.org")
        assert is_told(told)
        assert told.headers["retry-after"] == "30"
        assert running.confirm("full@example.org").status_code == 200
    finally:
        running.redis.ask("CONFIG", "SET", "maxmemory", "0")
    running.log_in("roomy@example.org")


@pytest.mark.fault(
    row="read-only replica after failover",
    cause="REPLICAOF, then REPLICAOF NO ONE; failover itself: libs/shared_store/tests/test_failover.py",
    auth_api="503 while there is no master; then goes on",
    mailer="goes on by itself",
    key_rotator="goes on by itself",
)
def test_master_that_was_turned_into_a_replica_is_told_until_it_is_a_master_again(running: Broker) -> None:
    running.redis.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        assert is_told(running.begin("replica@example.org"))
    finally:
        running.redis.ask("REPLICAOF", "NO", "ONE")
    running.until_ready()
    running.log_in("master@example.org")


@pytest.mark.fault(
    row="wrong password / ACL denies a command",
    cause="the default user loses EVALSHA",
    auth_api="503 with Retry-After, the command named in the log",
    mailer="stays up; goes on by itself",
    key_rotator="stays up; goes on by itself",
)
def test_command_that_the_acl_denies_is_told_and_named(running: Broker) -> None:
    running.redis.ask("ACL", "SETUSER", "default", "-evalsha", "-eval")
    try:
        assert is_told(running.begin("denied@example.org"))
    finally:
        running.redis.ask("ACL", "SETUSER", "default", "+evalsha", "+eval")
    assert "evalsha" in running.apis[0].log.read_text()
    running.until_ready()
    running.log_in("allowed@example.org")

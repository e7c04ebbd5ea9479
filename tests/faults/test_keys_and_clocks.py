"""Keys that two sides of a split rotated, each for itself; services on machines whose clock is 10 minutes off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from tests.faults.broker import SITE, Broker, broker, open_smtp
from tests.stack import until

from shared_store.testing.servers import RedisServer, free_port, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

# Debian's package faketime: make system-packages.
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "libfaketime is missing")
KEYS = "keys:{RS256}"
LEASES = "mail:{mail}:leases"
MASTER = "mymaster"
TTL = 600  # seconds that a key signs: no longer than the clocks are off


def token_from(running: Broker, api: int, address: str) -> str:
    """The ID token of a whole login at one auth-api."""
    assert running.begin(address, api=api).status_code == 200
    done = running.confirm(address, api=api)
    return done.text.partition('name="id_token" value="')[2].partition('"')[0]


def claims(running: Broker, api: int, token: str) -> dict[str, Any]:
    """What a token says to a relying party that has just read this auth-api's keys.json."""
    keys = jwt.PyJWKSet.from_dict(httpx.get(f"{running.urls[api]}/keys.json", timeout=5).json())
    [key] = [key for key in keys.keys if key.key_id == jwt.get_unverified_header(token)["kid"]]
    told: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], audience=SITE, leeway=60)
    return told


# --- a split ---


class Guard:
    """A Sentinel of one side, which names the master that this side is to have."""

    def __init__(self, master: RedisServer) -> None:
        self.server = RedisServer(
            "valkey9", port=free_port(), sentinel=True, config={"sentinel monitor": _watch(master)}
        )

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.server.port}/{MASTER}"

    def names(self, master: RedisServer) -> None:
        self.server.ask("SENTINEL", "REMOVE", MASTER)
        self.server.ask("SENTINEL", "MONITOR", *_watch(master).split())


def _watch(master: RedisServer) -> str:
    return f"{MASTER} 127.0.0.1 {master.port} 9"  # a quorum that there never is: nothing fails over by itself


def cut(server: RedisServer) -> None:
    """End its clients' connections, as a Sentinel does where it turned a master into a replica."""
    for kind in ("normal", "pubsub"):
        server.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def serves(server: RedisServer) -> bool:
    names = str(server.ask("CLIENT", "LIST"))
    return all(f"name={name}" in names for name in ("auth-api", "mailer", "key-rotator"))


@pytest.mark.parametrize("survivor", ["the older side", "the newer side"])
@pytest.mark.fault(
    row="two rotators split-brained",
    cause="a replica is promoted for one of each service while the master lives on for the others; each side rotates "
    "twice and issues tokens; then one of the masters becomes the other's replica",
    auth_api="both have one set: the newer side's key signs, tokens of both sides verify at both, no old key is lost",
    mailer="-",
    key_rotator="the newer version is written above both, with what signed on the other side among the retired",
)
def test_keys_of_both_sides_of_a_split_become_one_set_in_which_every_token_verifies(
    tmp_path: Path, survivor: str
) -> None:
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(RedisServer("valkey9", port=free_port()))
        new = stack.enter_context(
            RedisServer("valkey9", port=free_port(), config={"replicaof": f"127.0.0.1 {old.port}"})
        )
        guards = [Guard(old), Guard(old)]
        for guard in guards:
            stack.enter_context(guard.server)
        server = contextlib.nullcontext(old)
        running = stack.enter_context(broker(tmp_path, server=server, starts=False, redis_url=guards[0].url))
        sides = [[kind[side] for kind in (running.apis, running.mailers, running.rotators)] for side in range(2)]
        for service in sides[1]:
            service.end()
            service.environ["BROKER_REDIS_URL"] = guards[1].url
            service.start()
        running.until_ready()
        running.log_in("together@example.org")
        wait_until(lambda: new.ask("INFO", "replication")["master_link_status"] == "up")
        before = running.kids()

        new.ask("REPLICAOF", "NO", "ONE")
        for guard, master in zip(guards, (old, new), strict=True):
            guard.names(master)
        cut(old)
        until(lambda: serves(old) and serves(new))
        running.until_ready()
        for side in (0, 0, 1, 1):
            running.rotators[side].does("rotate", "--now", "--alg", "RS256")
        until(lambda: all(running.kids(side)[0] not in before for side in range(2)), bound=60)
        assert running.kids(0)[0] != running.kids(1)[0]
        tokens = [token_from(running, side, f"side-{side}@example.org") for side in range(2)]
        signed = [jwt.get_unverified_header(token)["kid"] for token in tokens]
        assert [running.kids(side)[0] for side in range(2)] == signed
        newer = running.kids(1)[:2]

        winner, loser, guard = (old, new, guards[1]) if survivor == "the older side" else (new, old, guards[0])
        loser.ask("REPLICAOF", "127.0.0.1", winner.port)
        guard.names(winner)
        wait_until(lambda: loser.ask("INFO", "replication")["master_link_status"] == "up")
        cut(loser)
        until(lambda: running.kids(0) == running.kids(1) and set(signed) <= set(running.kids()), bound=90)
        together = running.kids()
        assert together[:2] == newer, "the last known version wins"
        assert {*before, *signed} <= set(together)
        assert len(together) == len(set(together))
        for api in range(2):
            for side, token in enumerate(tokens):
                assert claims(running, api, token)["email"] == f"side-{side}@example.org"
        assert jwt.get_unverified_header(token_from(running, 0, "healed@example.org"))["kid"] == newer[0]
        assert '"change": "restore"' in "\n".join(map(bytes.decode, winner.ask("LRANGE", "key-log:{RS256}", 0, -1)))
        running.until_ready()
        running.log_in("one@example.org")
        assert running.kids() == together
        assert running.nobody_died()


# --- clocks ---


@pytest.fixture(params=["+10m", "-10m"], scope="module")
def off(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Services of which the first of each kind has a wrong clock; logins and keys live no longer than it is wrong."""
    folder = tmp_path_factory.mktemp("broker")
    with broker(folder, starts=False, keys_ttl=TTL, session_ttl=TTL, token_ttl=TTL) as running:
        for service in running.one_of_each:
            service.end()
            service.environ |= {
                "LD_PRELOAD": FAKETIME, "FAKETIME": request.param, "FAKETIME_DONT_FAKE_MONOTONIC": "1"
            }  # fmt: skip
            service.log.write_text("")
            service.start()
        running.until_ready()
        yield running
        assert running.nobody_died()
        running.until_ready()
        for service in running.services:
            assert not service.lines("lease_lost")
            assert "Traceback" not in service.log.read_text()


def now(running: Broker) -> float:
    return float(running.redis.ask("TIME")[0])


@pytest.mark.fault(
    row="clock of one host 10 min off",
    cause="libfaketime sets one auth-api's clock 10 minutes ahead, or back",
    auth_api="a login that began elsewhere ends there and the other way round; iat and exp are in the server's time",
    mailer="-",
    key_rotator="-",
)
def test_auth_api_whose_clock_is_wrong_issues_tokens_in_the_servers_time(off: Broker) -> None:
    token = token_from(off, 0, "wrong-clock@example.org")
    issued = jwt.decode(token, options={"verify_signature": False})
    assert abs(issued["iat"] - now(off)) < 60
    assert abs(issued["exp"] - TTL - now(off)) < 60
    assert claims(off, 1, token)["email"] == "wrong-clock@example.org"
    off.log_in("begun-wrong@example.org")
    assert off.begin("begun-right@example.org", api=1).status_code == 200
    assert off.confirm("begun-right@example.org", api=0).status_code == 200


@pytest.mark.fault(
    row="clock of one host 10 min off",
    cause="one mailer's clock is 10 minutes off either way, as long as a login lives; for a while it is alone and "
    "the mail server is away for a moment",
    auth_api="-",
    mailer="sends in time, puts off by the server's time, keeps its lease; neither takes the other for dead",
    key_rotator="-",
)
def test_mailer_whose_clock_is_wrong_keeps_to_the_servers_time(off: Broker) -> None:
    wrong, right = off.mailers
    [lease] = [name for name in _times(off, LEASES) if f"-{wrong.process.pid}-" in name]
    assert 0 < _times(off, LEASES)[lease] - now(off) <= 16
    right.end()
    off.smtp.stop()
    try:
        assert off.begin("patient@example.org").status_code == 200
        until(lambda: off.redis.ask("ZCARD", "mail:{mail}:delayed"))
        [due] = _times(off, "mail:{mail}:delayed").values()
        assert due - now(off) < 120
    finally:
        off.smtp = open_smtp(off.mailbox, off.smtp.port)
    assert off.confirm("patient@example.org", api=1).status_code == 200
    until(lambda: not off.redis.ask("HLEN", "mail:{mail}:jobs"))
    assert not wrong.lines("mail_given_up")
    right.start()
    off.until_ready()
    until(lambda: len(_times(off, LEASES)) == 2)  # who was killed is reaped; who lives is left alone
    assert lease in _times(off, LEASES)
    off.log_in("both@example.org")
    assert off.mailbox.count("patient@example.org") == 1


def _times(running: Broker, key: str) -> dict[str, float]:
    """The members of a set that is ordered by times, with these in Unix seconds."""
    flat = running.redis.ask("ZRANGE", key, 0, -1, "WITHSCORES")
    return {name.decode(): float(time) / 1000 for name, time in zip(flat[::2], flat[1::2], strict=True)}


@pytest.mark.fault(
    row="clock of one host 10 min off",
    cause="one key-rotator's clock is 10 minutes off either way, as long as a key signs; alone, it has to rotate",
    auth_api="-",
    mailer="-",
    key_rotator="rotates nothing early, nor late; a new key's times are the server's",
)
def test_rotator_whose_clock_is_wrong_rotates_by_the_servers_time(off: Broker) -> None:
    wrong, right = off.rotators
    kids = off.kids()
    right.end()
    off.redis.ask("PUBLISH", "keys-updated", KEYS)
    wrong.does("rotate", "--now", "--alg", "RS256")
    until(lambda: off.kids() != kids)
    rotated = off.kids()
    assert rotated[0] == kids[1]
    assert set(kids) <= set(rotated)
    current, upcoming = (_stored(off, role) for role in ("current", "next"))
    assert abs(current["signs_from"] - now(off)) < 60
    assert abs(current["signs_until"] - TTL - now(off)) < 60
    assert abs(upcoming["published_since"] - now(off)) < 60
    for _ in range(5):
        off.redis.ask("PUBLISH", "keys-updated", KEYS)
    off.log_in("rotated@example.org")
    assert off.kids() == rotated
    assert wrong.is_ready()
    assert 0 <= wrong.metric("key_rotator_current_key_age_seconds", alg="RS256") < 120
    right.start()
    off.until_ready()
    assert off.kids() == rotated


def _stored(running: Broker, role: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(running.redis.ask("HGET", KEYS, role))
    return found

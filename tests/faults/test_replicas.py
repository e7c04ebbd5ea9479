"""What redis_wait_replicas promises: through a failover, and where the replica says nothing or there is none."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.faults.broker import Broker, is_told
from tests.faults.conftest import Start
from tests.faults.load import until_so
from tests.faults.slots import MAIL, owner_of

from shared_store.testing.deployments import Deployment

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

AROUND = 3.0  # seconds of load before the fault, and after it is over
FORGOTTEN = 1.0  # seconds of logins on another master than their mail, for whose replica nothing waits


@pytest.mark.parametrize("kind", ["valkey9-sentinel", "valkey9-cluster6"])
@pytest.mark.fault(
    row="read-only replica after failover",
    cause="redis_wait_replicas=1: SIGKILL of the master that has the mail under 100 whole logins a second, and of the "
    "keys after a rotation; started again after the promotion",
    auth_api="503 with Retry-After until the new master has a replica again; no accepted login is forgotten (in a "
    "Cluster none whose login lies on the same master)",
    mailer="each mail of an accepted login arrives",
    key_rotator="the rotation that was acknowledged is still there",
)
async def test_nothing_that_a_replica_has_confirmed_is_forgotten(start: Start, kind: str) -> None:
    servers, running, load = await start(kind, redis_wait_replicas=1)
    victim = await asyncio.to_thread(owner_of, MAIL, servers)
    rotation = await asyncio.to_thread(running.rotators[0].command, "rotate", "--now")
    assert rotation.returncode == 0, rotation.stderr
    await until_so(lambda: running.kids(0) == running.kids(1))
    kids = running.kids()
    async with load.going_on(running):
        await asyncio.sleep(AROUND)
        masters = {id(server) for server in servers.masters()}
        died = time.monotonic()
        await asyncio.to_thread(victim.kill)
        await until_so(lambda: any(id(one) not in masters for one in servers.masters()))
        promoted = time.monotonic()
        await asyncio.to_thread(victim.start)
        await until_so(lambda: max(load.begun.values()) > promoted)
        back = max(load.begun.values())
        await asyncio.sleep(AROUND)
    print(
        f"\n{kind}: promoted after {promoted - died:.2f} s, first login {back - promoted:.2f} s later, with a replica; "
        f"{len(load.begun)} begun ({load.carried:.0f} a second came), {len(load.told)} told 503, "
        f"{len(load.begun.keys() - load.mailed)} mails and {len(load.gone)} logins forgotten"
    )
    assert load.wrong == []
    assert load.told
    assert load.begun.keys() <= load.mailed
    if kind == "valkey9-sentinel":
        assert load.gone == []
    assert all(abs(load.begun[address] - died) <= FORGOTTEN for address in load.gone)
    assert load.begun.keys() - set(load.gone) == load.ended.keys()
    assert running.kids() == kids
    running.until_ready()
    assert running.nobody_died()


@pytest.mark.fault(
    row="connection hangs (SIGSTOP)",
    cause="redis_wait_replicas=1: SIGSTOP of the only replica, and min-replicas-to-write on the master; then undone",
    auth_api="new logins 503 with Retry-After in their time; as soon as it is undone each login ends",
    mailer="the mail of a login that was told 503 may come all the same",
    key_rotator="`rotate` tells that too few replicas have it, or that it was refused",
)
async def test_replica_that_confirms_nothing_is_told_in_time(start: Start) -> None:
    servers, running, load = await start("valkey9-sentinel", redis_wait_replicas=1)
    for cause in (_replica_is_silent, _writes_are_refused):
        await asyncio.to_thread(cause, servers, running)
        running.until_ready()
        count = len(load.ended)
        async with load.going_on(running):
            await until_so(lambda count=count: len(load.ended) > count)  # type: ignore[misc]
    assert load.wrong == []
    assert load.told == []
    assert running.nobody_died()


def _replica_is_silent(servers: Deployment, running: Broker) -> None:
    [_, replica] = servers.servers
    replica.pause()
    try:
        assert is_told(running.begin("silent@example.org"))
        rotation = running.rotators[0].command("rotate", "--now")
        assert rotation.returncode
        assert "0 of the 1 replicas" in rotation.stdout + rotation.stderr
    finally:
        replica.resume()


def _writes_are_refused(servers: Deployment, running: Broker) -> None:
    [master, _] = servers.servers
    master.ask("CONFIG", "SET", "min-replicas-to-write", "2")
    try:
        assert is_told(running.begin("refused@example.org"))
        rotation = running.rotators[0].command("rotate", "--now")
        assert rotation.returncode
        assert "fewer replicas" in rotation.stdout + rotation.stderr
    finally:
        master.ask("CONFIG", "SET", "min-replicas-to-write", "0")

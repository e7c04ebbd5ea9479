"""Whole logins, a hundred a second, while a master dies behind Sentinel or in a Cluster, and while slots move."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from tests.faults.conftest import Start
from tests.faults.load import until_so
from tests.faults.slots import MAIL, move_at_once, move_by_keys, owner_of, slots_in_use, slots_of

from shared_store.testing.deployments import Deployment
from shared_store.testing.servers import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

AROUND = 3.0  # seconds of load before the fault, and after it is over
FORGOTTEN = 1.0  # seconds of writes that a failover may forget: nothing waits for replicas here
MOST = 150  # slots of each master and kind of keys that move, and as many without keys
PATIENT = 10  # seconds of redis_timeout: a move that a busy machine makes last is to be waited for

Fails = Callable[[RedisServer, Deployment], list[RedisServer]]
Move = Callable[[Sequence[int], RedisServer, RedisServer], None]


def dies(master: RedisServer, _servers: Deployment) -> list[RedisServer]:
    """Kill a master; gives whom to wake afterwards."""
    master.kill()
    return []


def falls_silent(master: RedisServer, servers: Deployment) -> list[RedisServer]:
    """Stop a master and the Sentinel that is asked first, as if their machine had lost its power."""
    silent = [master, servers.sentinels[0]]
    for server in silent:
        server.pause()
    return silent


@pytest.mark.parametrize(
    ("kind", "fails"),
    [("valkey9-sentinel", dies), ("valkey9-sentinel", falls_silent), ("valkey9-cluster6", dies)],
)
@pytest.mark.fault(
    row="Cluster: slot moved, node lost",
    cause="under 100 whole logins a second the master that has the mail queue is killed (Sentinel set, Cluster of "
    "six), or stopped together with the first Sentinel",
    auth_api="503 with Retry-After from the death until a replica is promoted, nothing else; logins end after it",
    mailer="each mail of a login that was accepted arrives, but for what the failover forgot",
    key_rotator="the keys are the same",
)
async def test_master_that_is_lost_is_told_only_until_another_is_promoted(
    start: Start, kind: str, fails: Fails
) -> None:
    servers, running, load = await start(kind)
    victim = await asyncio.to_thread(owner_of, MAIL, servers)
    heirs = replace(servers, servers=tuple(server for server in servers.servers if server is not victim))
    masters = {id(server) for server in servers.masters()}
    kids = running.kids()
    async with load.going_on(running):
        await asyncio.sleep(AROUND)
        died = time.monotonic()
        silent = await asyncio.to_thread(fails, victim, servers)
        await until_so(lambda: any(id(one) not in masters for one in heirs.masters()))
        promoted = time.monotonic()
        await until_so(lambda: max(load.begun.values()) > promoted)
        back = max(load.begun.values())
        await asyncio.sleep(AROUND)
    last = max(load.told, default=promoted)
    forgotten = [at for address, at in load.begun.items() if address not in load.ended]
    for server in silent:
        server.resume()
    print(
        f"\n{kind}, {fails.__name__}: promoted after {promoted - died:.2f} s, first login after another "
        f"{back - promoted:.2f} s, last error after {last - promoted:.2f} s; {len(load.begun)} begun "
        f"({load.carried:.0f} a second came), {len(load.told)} told 503, {len(forgotten)} forgotten by the failover"
    )
    assert load.wrong == []
    assert min(load.told) >= died
    assert all(abs(at - died) <= FORGOTTEN for at in forgotten)
    assert running.kids() == kids
    running.until_ready()
    assert running.nobody_died()


@pytest.mark.parametrize(
    ("kind", "move"),
    [("valkey9-cluster", move_by_keys), ("redis7-cluster", move_by_keys), ("valkey9-cluster", move_at_once)],
)
@pytest.mark.fault(
    row="Cluster: slot moved, node lost",
    cause="slots of keys, mail, limits and logins in flight move, and others, under 100 whole logins a second: "
    "by SETSLOT and MIGRATE (Valkey 9, Redis 7), by CLUSTER MIGRATESLOTS (Valkey 9)",
    auth_api="nobody notices: no error, each login ends",
    mailer="each mail arrives",
    key_rotator="the keys are the same",
)
async def test_slots_that_move_are_noticed_by_nobody(start: Start, kind: str, move: Move) -> None:
    servers, running, load = await start(kind, redis_timeout=PATIENT)
    kids = running.kids()
    async with load.going_on(running):
        await asyncio.sleep(AROUND)
        began = time.monotonic()
        moved = await asyncio.to_thread(_move_what_is_in_use, servers, move)
        there = time.monotonic()
        await asyncio.sleep(AROUND)
    print(
        f"\n{kind}, {move.__name__}: {moved} slots moved in {there - began:.1f} s; {len(load.begun)} begun "
        f"({load.carried:.0f} a second came), {len(load.ended)} ended, {len(load.told)} told 503"
    )
    assert moved.keys() >= {"keys", "mail", "limit", "login"}
    assert load.wrong == []
    assert load.told == []
    assert load.begun.keys() == load.ended.keys()
    assert running.kids() == kids
    assert running.nobody_died()


def _move_what_is_in_use(servers: Deployment, move: Move) -> dict[str, int]:
    """Move from each master to the next slots that have keys, and some that have none; tells how many of which keys."""
    masters = servers.masters()
    moved: dict[str, int] = {}
    for source, target in zip(masters, [*masters[1:], masters[0]], strict=True):
        used = slots_in_use(source)
        used["none"] = slots_of(source).difference(*used.values())
        chosen = {word: random.sample(sorted(slots), min(MOST, len(slots))) for word, slots in used.items()}
        for word, slots in chosen.items():
            moved[word] = moved.get(word, 0) + len(slots)
        move(sorted(set().union(*chosen.values())), source, target)
    return moved

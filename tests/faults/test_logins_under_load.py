"""Whole logins, a hundred a second, while a master dies behind Sentinel or in a Cluster, and while slots move."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis
from tests.faults.broker import Broker, asked, broker, is_told

from shared_store.testing.deployments import Deployment, deployment
from shared_store.testing.servers import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

RATE = 100  # logins a second
AROUND = 3.0  # seconds of load before the fault, and after it is over
BOUND = 60.0  # seconds for a login to come to its end
FORGOTTEN = 1.0  # seconds of writes that a failover may forget: nothing waits for replicas here


@dataclass
class Load:
    """Logins that arrive at a rate of their own, each by both auth-apis, and what became of them (monotonic times)."""

    running: Broker
    begun: dict[str, float] = field(default_factory=dict)  # answered with 200
    ended: dict[str, float] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)  # told that there is no such login (any more)
    told: list[float] = field(default_factory=list)  # 503 with Retry-After
    wrong: list[str] = field(default_factory=list)  # anything else

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Let logins arrive while the block runs, and wait for the end of those that have been begun."""
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=100)
        async with httpx.AsyncClient(limits=limits, timeout=30) as browser, asyncio.TaskGroup() as logins:
            arriving = logins.create_task(self._arrive(browser, logins))
            try:
                yield
            finally:
                arriving.cancel()

    async def _arrive(self, browser: httpx.AsyncClient, logins: asyncio.TaskGroup) -> None:
        due, number = time.monotonic(), 0
        while True:
            number += 1
            due += random.expovariate(RATE)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            logins.create_task(self._log_in(browser, f"p{number}@example.org", number % 2))

    async def _log_in(self, browser: httpx.AsyncClient, address: str, api: int) -> None:
        urls = self.running.urls
        if not await self._asks(lambda: browser.get(f"{urls[api]}/auth", params=asked(address))):
            return
        self.begun[address] = time.monotonic()
        ends = time.monotonic() + BOUND
        while not self.running.mailbox.count(address):
            if time.monotonic() > ends:
                return
            await asyncio.sleep(0.05)
        mail = self.running.mailbox.wait_for(address)
        fields = {"session": mail.session, "code": mail.code, "device_ok": "1"}
        while not await self._asks(lambda: browser.post(f"{urls[1 - api]}/confirm", data=fields), address):
            if time.monotonic() > ends or address in self.gone:
                return
            await asyncio.sleep(1)  # as the page does that tries again by itself
        self.ended[address] = time.monotonic()

    async def _asks(self, ask: Callable[[], Awaitable[httpx.Response]], address: str = "") -> bool:
        answer = await ask()
        if answer.status_code == 200:
            return True
        if is_told(answer):
            self.told.append(time.monotonic())
        elif answer.status_code == 400 and address and "expired" in answer.text:
            self.gone.append(address)
        else:
            self.wrong.append(f"{answer.status_code} {answer.text[:200]}")
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], tuple[Deployment, Broker]]]:
    """Start the services on a kind of deployment."""
    with contextlib.ExitStack() as stack:

        def started(kind: str) -> tuple[Deployment, Broker]:
            servers = stack.enter_context(deployment(kind))
            server = contextlib.nullcontext(servers.servers[0])
            return servers, stack.enter_context(broker(tmp_path, server=server, redis_url=servers.url, mail_wait=0))

        yield started


@pytest.mark.parametrize("kind", ["valkey9-sentinel", "valkey9-cluster6"])
@pytest.mark.fault(
    row="Cluster: slot moved, node lost",
    cause="SIGKILL of the master that has the mail queue under 100 whole logins a second; Sentinel set, Cluster of six",
    auth_api="503 with Retry-After from the death until a replica is promoted, nothing else; logins end after it",
    mailer="each mail of a login that was accepted arrives, but for what the failover forgot",
    key_rotator="the keys are the same",
)
async def test_master_that_dies_is_told_only_until_another_is_promoted(
    start: Callable[[str], tuple[Deployment, Broker]], kind: str
) -> None:
    servers, running = start(kind)
    victim = await asyncio.to_thread(_owner_of_the_mail, servers)
    heirs = [server for server in servers.servers if server is not victim]
    masters = {id(server) for server in servers.masters()}
    kids = running.kids()
    load = Load(running)
    async with load.going_on():
        await asyncio.sleep(AROUND)
        died = time.monotonic()
        await asyncio.to_thread(victim.kill)
        await _until(lambda: any(id(one) not in masters for one in servers.masters() if one in heirs))
        promoted = time.monotonic()
        await _until(lambda: max(load.begun.values()) > promoted)
        back = max(load.begun.values())
        await asyncio.sleep(AROUND)
    last = max(load.told, default=promoted)
    forgotten = [at for address, at in load.begun.items() if address not in load.ended]
    print(
        f"\n{kind}: promoted after {promoted - died:.2f} s, first login after another {back - promoted:.2f} s, last "
        f"error after {last - promoted:.2f} s; {len(load.begun)} begun, {len(load.told)} told 503, "
        f"{len(forgotten)} forgotten by the failover"
    )
    assert load.wrong == []
    assert min(load.told) >= died
    assert all(abs(at - died) <= FORGOTTEN for at in forgotten)
    assert running.kids() == kids
    running.until_ready()
    assert running.nobody_died()


@pytest.mark.parametrize("kind", ["valkey9-cluster", "redis7-cluster"])
@pytest.mark.fault(
    row="Cluster: slot moved, node lost",
    cause="1,000 slots move, that of the mail queue among them, under 100 whole logins a second (Valkey 9, Redis 7)",
    auth_api="nobody notices: no error, each login ends",
    mailer="each mail arrives",
    key_rotator="the keys are the same",
)
async def test_slots_that_move_are_noticed_by_nobody(
    start: Callable[[str], tuple[Deployment, Broker]], kind: str
) -> None:
    servers, running = start(kind)
    owner = await asyncio.to_thread(_owner_of_the_mail, servers)
    target = next(server for server in servers.masters() if server is not owner)
    kids = running.kids()
    mail = int(owner.ask("CLUSTER", "KEYSLOT", "mail:{mail}:jobs"))
    others = [slot for slot in _slots_of(owner) if slot != mail]
    load = Load(running)
    async with load.going_on():
        await asyncio.sleep(AROUND)
        began = time.monotonic()
        await asyncio.to_thread(_move, [mail, *random.sample(others, 1000)], owner, target)
        there = time.monotonic()
        await asyncio.to_thread(_move, [mail], target, owner)
        print(f"\n1,001 slots moved in {there - began:.1f} s, one back in {time.monotonic() - there:.1f} s")
        await asyncio.sleep(AROUND)
    print(f"\n{kind}: {len(load.begun)} begun, {len(load.ended)} ended, {len(load.told)} told 503")
    assert load.wrong == []
    assert load.told == []
    assert load.begun.keys() == load.ended.keys()
    assert running.kids() == kids
    assert running.nobody_died()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def _owner_of_the_mail(servers: Deployment) -> RedisServer:
    masters = servers.masters()
    if len(masters) == 1:
        return masters[0]
    slot = masters[0].ask("CLUSTER", "KEYSLOT", "mail:{mail}:jobs")
    return next(master for master in masters if int(slot) in _slots_of(master))


def _slots_of(master: RedisServer) -> range:
    """Those of a node that has one range, as it was started with."""
    name = master.ask("CLUSTER", "MYID").decode()
    [line] = [line for line in master.ask("CLUSTER", "NODES").decode().splitlines() if line.startswith(name)]
    first, last = line.split()[8].split("-")
    return range(int(first), int(last) + 1)


def _move(slots: Sequence[int], source: RedisServer, target: RedisServer) -> None:
    """Move slots one by one, as `redis-cli --cluster reshard --cluster-pipeline 100` does."""
    names = [server.ask("CLUSTER", "MYID").decode() for server in (source, target)]
    with redis.Redis(port=source.port) as old, redis.Redis(port=target.port) as new:
        for slot in slots:
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            for server in (new, old):
                server.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])

"""What a Sentinel set and a Cluster go through: masters die, come back, hand slots over. --servers has to name them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest

from shared_store import rate_limits
from shared_store.commands import Call, command
from shared_store.errors import StoreUnavailable
from shared_store.mail_queue import MailQueue
from shared_store.notices import Notices
from shared_store.rate_limits import Counter
from shared_store.store import Store
from shared_store.testing.calls import until_answered
from shared_store.testing.deployments import Deployment, deployment
from shared_store.testing.notices import say_until_heard
from shared_store.testing.servers import RedisServer, wait_until

pytestmark = [pytest.mark.redis, pytest.mark.faults]

COUNTERS = [Counter("l", (str(number),), 5, 600) for number in range(30)]


def started(request: pytest.FixtureRequest, form: str) -> Iterator[Deployment]:
    kinds = [kind for kind in request.config.getoption("--servers").split(",") if kind.endswith(form)]
    if not kinds:
        pytest.skip(f"--servers names none that ends in {form}")
    with deployment(kinds[0], fails_over=True) as running:
        yield running


@pytest.fixture
def sentinels(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    yield from started(request, "-sentinel")


@pytest.fixture
def six_nodes(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    yield from started(request, "-cluster6")


async def until_it_works(store: Store) -> None:
    """Call until every counter answers; until then nothing but StoreUnavailable may be raised."""
    async with asyncio.timeout(40):
        while True:
            try:
                await store.run(rate_limits.hit(COUNTERS))
                await store.ping()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@contextlib.asynccontextmanager
async def opened(where: Deployment) -> AsyncIterator[Store]:
    async with Store(where.url, replace(where.options, timeout=1)) as store:
        await store.run(rate_limits.hit(COUNTERS))
        yield store


def kill(server: RedisServer) -> None:
    server.kill()


def replace_and_restart(master: RedisServer, where: Deployment) -> None:
    """Kill a master, and start it again once another has taken its place."""
    number = len(where.masters())
    master.kill()
    wait_until(lambda: len(where.masters()) == number, bound=40)
    master.start()
    wait_until(lambda: master.ask("ROLE")[0] == b"slave", bound=40)


def pause(server: RedisServer) -> None:
    server.pause()


@pytest.mark.parametrize("fault", [kill, pause])
async def test_sentinels_promote_a_replica_and_calls_and_notices_follow(
    sentinels: Deployment, fault: Callable[[RedisServer], None]
) -> None:
    master, replica = sentinels.servers
    async with opened(sentinels) as store:
        notices = Notices(store)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(notices.run())
            with notices.listen("hello") as listener:
                await asyncio.wait_for(notices.connected.wait(), 20)
                fault(master)
                with pytest.raises(StoreUnavailable):
                    await store.run(rate_limits.hit(COUNTERS))
                await until_it_works(store)
                assert replica.ask("ROLE")[0] == b"master"
                client = store.client
                heard = await say_until_heard(lambda: client.execute_command("PUBLISH", "hello", "again"), listener)
                assert heard == b"again"
            task.cancel()
        assert not await MailQueue().wait_for_job(store, "w", block=0.1)
        if fault is pause:
            master.resume()
            await asyncio.to_thread(wait_until, lambda: master.ask("ROLE")[0] == b"slave")
            before = int(replica.ask("GET", COUNTERS[0].key))
            [count] = await store.run(rate_limits.hit(COUNTERS[:1]))
            assert count.hits == before + 1


async def test_cluster_that_loses_a_master_is_told_then_whole_again(six_nodes: Deployment) -> None:
    async with opened(six_nodes) as store:
        notices = Notices(store)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(notices.run())
            with notices.listen("hello") as listener:
                await asyncio.wait_for(notices.connected.wait(), 20)
                six_nodes.servers[0].kill()
                with pytest.raises(StoreUnavailable):
                    await store.run(rate_limits.hit(COUNTERS))
                await until_it_works(store)
                master = six_nodes.masters()[0]
                heard = await say_until_heard(
                    lambda: asyncio.to_thread(master.ask, "PUBLISH", "hello", "again"), listener
                )
                assert heard == b"again"
            task.cancel()
        counts = await store.run(rate_limits.look(COUNTERS))
        assert all(count.hits >= 1 for count in counts)
        assert not await MailQueue().wait_for_job(store, "w", block=0.1)


async def test_master_that_comes_back_as_a_replica_is_no_error_to_writes_that_wait_for_one(
    six_nodes: Deployment,
) -> None:
    # One in three such masters was asked for a write's WAIT after the write had gone to the new one.
    options = replace(six_nodes.options, timeout=2, wait_replicas=1, wait_timeout=1)
    write = replace(rate_limits.hit(COUNTERS[:1]), durable=True)
    is_over = asyncio.Event()

    async def keep_writing(store: Store) -> None:
        while not is_over.is_set():
            await until_answered(store, write, bound=80)  # anything but an outage fails the test

    async with Store(six_nodes.url, options) as store, asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(keep_writing(store))
        for _ in range(4):
            await until_answered(store, write, bound=40)
            await asyncio.to_thread(replace_and_restart, six_nodes.keys()[COUNTERS[0].key], six_nodes)
        is_over.set()


async def test_lost_replica_is_nothing_to_be_told(six_nodes: Deployment) -> None:
    async with opened(six_nodes) as store:
        six_nodes.servers[4].kill()
        for _ in range(5):
            await store.ping()
            await store.run(rate_limits.hit(COUNTERS))


async def test_stopped_node_delays_the_others_calls_by_nothing_and_mixes_up_no_replies(six_nodes: Deployment) -> None:
    async with Store(six_nodes.url, replace(six_nodes.options, timeout=0.3)) as store:
        keys = [f"{{{number}}}" for number in range(30)]
        for key in keys:
            await store.run(Call((command("SET", key, key),), list))
        many = Call(tuple(command("GET", key) for key in keys), list)
        six_nodes.servers[0].pause()
        with pytest.raises(StoreUnavailable):
            await store.run(Call(tuple(command("INCR", f"{key}n") for key in keys), list))
        reached = sum(len(server.ask("KEYS", "*n")) for server in six_nodes.servers[1:3])
        assert reached > 10  # the other masters were asked at the same time
        six_nodes.servers[0].resume()
        assert await until_answered(store, many, bound=40) == [key.encode() for key in keys]


async def test_calls_follow_a_slot_that_is_handed_over(six_nodes: Deployment) -> None:
    source, target = six_nodes.servers[:2]
    names = [server.ask("CLUSTER", "MYID").decode() for server in (source, target)]
    async with opened(six_nodes) as store:
        moving = next(counter for counter in COUNTERS if counter.key.encode() in source.ask("KEYS", "*"))
        slot = source.ask("CLUSTER", "KEYSLOT", moving.key)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
        [during] = await store.run(rate_limits.hit([moving]))
        source.ask("MIGRATE", "127.0.0.1", target.port, moving.key, 0, 5000)
        [asked] = await store.run(rate_limits.hit([moving]))
        counts = await store.run(rate_limits.hit(COUNTERS))
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", names[1])
        [moved] = await store.run(rate_limits.hit([moving]))
        assert (during.hits, asked.hits, moved.hits) == (2, 3, 5)
        assert [count.hits for count in counts if count.counter != moving] == [2] * (len(COUNTERS) - 1)

"""Slots on the move in a real Cluster, and addresses that are others from here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shared_store import cluster
from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreUnavailable
from shared_store.store import Store
from shared_store.testing.deployments import Deployment, deployment
from shared_store.testing.servers import RedisServer, free_port, wait_until

MANY = 40


@pytest.fixture(scope="module")
def nodes() -> Iterator[Deployment]:
    with deployment("valkey9-cluster") as running:
        yield running


@pytest.fixture
def newcomer(nodes: Deployment) -> Iterator[RedisServer]:
    """A node that has joined and has no slot yet, as when a Cluster grows."""
    config = {"cluster-enabled": "yes", "cluster-announce-ip": "127.0.0.1"}
    with RedisServer("valkey9", port=free_port(), config=config) as server:
        server.ask("CLUSTER", "MEET", "127.0.0.1", nodes.servers[0].port)
        name = server.ask("CLUSTER", "MYID")
        wait_until(lambda: all(name in _nodes(one) for one in nodes.servers))
        # A new master takes nothing for its first two seconds.
        wait_until(lambda: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"))
        yield server


def _nodes(server: RedisServer) -> bytes:
    told: bytes = server.ask("CLUSTER", "NODES")
    return told


def _slot(server: RedisServer, tag: str) -> int:
    return int(server.ask("CLUSTER", "KEYSLOT", tag))


def _begin_to_move(tag: str, nodes: Deployment, target: RedisServer) -> RedisServer:
    """Open a slot for its move; gives who has it."""
    slot = _slot(target, tag)
    source = nodes.servers[min(slot * 3 // 16384, 2)]
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
    return source


async def test_many_at_once_reach_a_node_that_imports_its_first_slot(nodes: Deployment, newcomer: RedisServer) -> None:
    async with Store(nodes.url) as store:
        # As many connections to each node as there will be commands.
        await asyncio.gather(*(store.run(Call((command("SET", f"warm:{n}", 1),), list)) for n in range(MANY)))
        source = _begin_to_move("moving", nodes, newcomer)
        writes = [store.run(Call((command("SET", f"{{moving}}:{n}", n),), list)) for n in range(MANY)]
        await asyncio.gather(*writes)
        reads = (command("GET", "{moving}:1"), command("GET", "warm:1"), command("GET", "{moving}:2"))
        assert await store.run(Call(reads, list)) == [b"1", b"1", b"2"]
    assert int(newcomer.ask("CLUSTER", "COUNTKEYSINSLOT", _slot(newcomer, "moving"))) == MANY
    source.ask("CLUSTER", "SETSLOT", _slot(source, "moving"), "STABLE")


async def test_keys_that_lie_on_both_nodes_are_waited_for_and_then_told(nodes: Deployment) -> None:
    target = nodes.servers[2]
    async with Store(nodes.url, ConnectionOptions(timeout=1)) as store:
        both = Call((command("DEL", "{split}:1", "{split}:2"),), list)
        await store.run(Call((command("SET", "{split}:1", 1),), list))
        source = _begin_to_move("split", nodes, target)
        assert source is not target
        with pytest.raises(StoreUnavailable, match="moving this hash slot"):
            await store.run(both)
        waiting = asyncio.create_task(store.run(both))
        source.ask("MIGRATE", "127.0.0.1", target.port, "{split}:1", 0, 5000)
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", _slot(source, "split"), "NODE", target.ask("CLUSTER", "MYID"))
        assert await waiting == [1]


async def test_slot_that_has_moved_is_found_where_remap_says_that_its_node_is(nodes: Deployment) -> None:
    source, target = nodes.servers[:2]
    elsewhere = "127.0.0.2"  # what the nodes say that they are is not what they are called here
    for one in nodes.servers:
        one.ask("CONFIG", "SET", "bind", f"127.0.0.1 {elsewhere}")
    url = f"redis+cluster://{elsewhere}:{source.port}?remap=127.0.0.1/{elsewhere}"
    tag = next(f"{n}" for n in range(100_000) if _slot(source, f"{n}") == 0)
    async with Store(url) as store:
        await store.run(Call((command("SET", f"{{{tag}}}", 1),), list))
        _begin_to_move(tag, nodes, target)
        source.ask("MIGRATE", "127.0.0.1", target.port, f"{{{tag}}}", 0, 5000)
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", 0, "NODE", target.ask("CLUSTER", "MYID"))
        assert await store.run(Call((command("GET", f"{{{tag}}}"),), list)) == [b"1"]
        assert {node.host for node in store.client.get_primaries()} == {elsewhere}  # type: ignore[union-attr]


def test_write_and_its_wait_are_sent_again_together_and_once() -> None:
    get, write, wait = command("GET", "a"), command("SET", "b", "c"), command("WAIT", 1, 100)
    assert cluster._units([get, write]) == [slice(0, 1), slice(1, 2)]
    assert cluster._units([get, write, wait]) == [slice(0, 1), slice(1, 3)]
    assert cluster._units([write, wait]) == [slice(0, 2)]

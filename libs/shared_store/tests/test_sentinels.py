"""Who is master is learned from the sentinels that answer, and from who knows of the latest failover."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreUnavailable
from shared_store.store import Store
from shared_store.testing.calls import until_answered
from shared_store.testing.deployments import MASTER_NAME, Deployment, sentinel_set
from shared_store.testing.servers import RedisServer, wait_until

SET = Call((command("SET", "{x}", 1),), list)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def silence(running: Deployment, number: int) -> None:
    """Stop the sentinels that the URL names first, as if their machines had lost their power."""
    for guard in running.sentinels[:number]:
        guard.pause()


@pytest.mark.faults
async def test_master_whose_machine_is_lost_with_the_first_sentinel_is_replaced(stack: contextlib.ExitStack) -> None:
    running = sentinel_set("valkey9", stack)
    master, replica = running.servers
    async with Store(running.url, ConnectionOptions(timeout=2)) as store:
        await store.run(SET)
        silence(running, 1)
        master.pause()
        with pytest.raises(StoreUnavailable):
            await store.run(SET)
        await until_answered(store, SET, bound=30)
        assert replica.ask("ROLE")[0] == b"master"


async def test_client_begins_while_all_sentinels_but_the_last_of_the_url_hang(stack: contextlib.ExitStack) -> None:
    running = sentinel_set("valkey9", stack, replicas=0, patience=10)
    silence(running, 2)
    async with Store(running.url, ConnectionOptions(timeout=1)) as store:
        await store.run(SET)


@pytest.mark.parametrize("is_first", [True, False])
async def test_sentinel_that_missed_the_failover_is_not_believed(stack: contextlib.ExitStack, is_first: bool) -> None:
    stale = sentinel_set("valkey9", stack, replicas=0, sentinels=1, patience=10)
    good = sentinel_set("valkey9", stack, sentinels=1, patience=10)
    good.sentinels[0].ask("SENTINEL", "FAILOVER", MASTER_NAME)
    promoted = good.servers[1]

    def is_over() -> bool:
        return str(promoted.port).encode() in good.sentinels[0].ask("SENTINEL", "MASTER", MASTER_NAME)

    await asyncio.to_thread(wait_until, is_over)
    guards: list[RedisServer] = [*stale.sentinels, *good.sentinels]
    named = ",".join(f"127.0.0.1:{guard.port}" for guard in (guards if is_first else reversed(guards)))
    async with Store(f"redis+sentinel://{named}/{MASTER_NAME}") as store:
        await store.run(SET)
    assert promoted.ask("EXISTS", "{x}") == 1

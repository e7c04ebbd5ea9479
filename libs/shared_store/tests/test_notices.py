"""The one subscription a process, on every server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shared_store.connection import ConnectionOptions
from shared_store.notices import BACKLOG, LOOK_YOURSELF, Notices
from shared_store.store import Store
from shared_store.testing.deployments import Deployment
from shared_store.testing.notices import next_notice, say_until_heard
from shared_store.testing.servers import RedisServer


@contextlib.asynccontextmanager
async def running(store: Store) -> AsyncIterator[Notices]:
    notices = Notices(store)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(notices.run())
        yield notices
        task.cancel()


def saying(store: Store, channel: str, text: str) -> Callable[[], Awaitable[object]]:
    return lambda: store.client.execute_command("PUBLISH", channel, text)


async def test_everyone_who_listens_to_a_channel_hears_what_is_published_there(store: Store) -> None:
    async with running(store) as notices:
        with notices.listen("one") as first, notices.listen("one") as second, notices.listen("two") as other:
            await asyncio.wait_for(notices.connected.wait(), 20)
            await store.client.execute_command("PUBLISH", "one", "hello")
            assert await next_notice(first) == await next_notice(second) == b"hello"
            await store.client.execute_command("PUBLISH", "two", b"\xff\x00")
            assert await next_notice(other) == b"\xff\x00"
            assert first.empty()


async def test_channel_listened_to_later_is_heard_too(store: Store) -> None:
    async with running(store) as notices:
        with notices.listen("one"):
            await asyncio.wait_for(notices.connected.wait(), 20)
            with notices.listen("later") as listener:
                assert await say_until_heard(saying(store, "later", "hello"), listener) == b"hello"


async def test_subscription_comes_back_after_its_connection_was_cut(store: Store) -> None:
    async with running(store) as notices:
        with notices.listen("one") as listener:
            await asyncio.wait_for(notices.connected.wait(), 20)
            await store.client.execute_command("CLIENT KILL", "TYPE", "pubsub", target_nodes="all")
            assert await say_until_heard(saying(store, "one", "again"), listener) == b"again"


async def test_who_listens_is_told_to_look_where_notices_may_have_been_lost(store: Store) -> None:
    async with running(store) as notices:
        with notices.listen("one") as first, notices.listen("one") as second:
            for _ in range(3):  # once to begin with, then each time that the connection was cut
                assert await asyncio.wait_for(first.get(), 20) == LOOK_YOURSELF
                assert await asyncio.wait_for(second.get(), 20) == LOOK_YOURSELF
                await store.client.execute_command("CLIENT KILL", "TYPE", "pubsub", target_nodes="all")


async def test_subscription_begins_before_any_other_call_was_made(store: Store, any_server: Deployment) -> None:
    async with Store(any_server.url, any_server.options) as fresh, running(fresh) as notices:
        with notices.listen("one") as listener:
            await asyncio.wait_for(notices.connected.wait(), 20)
            await store.client.execute_command("PUBLISH", "one", "hello")
            assert await next_notice(listener) == b"hello"


async def test_listener_that_reads_nothing_loses_the_oldest(store: Store) -> None:
    notices = Notices(store)
    with notices.listen("one") as listener:
        for number in range(BACKLOG + 5):
            notices._deliver({"type": "message", "channel": b"one", "data": b"%d" % number})
        assert listener.qsize() == BACKLOG
        assert listener.get_nowait() == b"5"


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["valkey9", "redis7"])
async def test_subscription_comes_back_after_the_server_was_killed(kind: str) -> None:
    with RedisServer(kind) as server:
        async with Store(server.url) as store, running(store) as notices:
            with notices.listen("one") as listener:
                await asyncio.wait_for(notices.connected.wait(), 20)
                server.kill()
                server.start()
                assert await say_until_heard(saying(store, "one", "again"), listener) == b"again"


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["valkey9", "redis7"])
async def test_subscription_on_a_connection_that_is_silent_for_ever_is_given_up(kind: str) -> None:
    with RedisServer(kind) as server:
        async with Store(server.url, ConnectionOptions(timeout=0.2)) as store, running(store) as notices:
            with notices.listen("one") as listener:
                await asyncio.wait_for(notices.connected.wait(), 20)
                server.pause()
                async with asyncio.timeout(20):
                    while notices.connected.is_set():
                        await asyncio.sleep(0.05)
                server.resume()
                assert await say_until_heard(saying(store, "one", "again"), listener) == b"again"


async def test_subscription_that_is_silent_but_alive_is_kept(valkey_url: str) -> None:
    async with Store(valkey_url, ConnectionOptions(timeout=0.05)) as store, running(store) as notices:
        with notices.listen("one") as listener:
            await asyncio.wait_for(notices.connected.wait(), 20)
            interrupted = asyncio.create_task(until_interrupted(notices))
            await asyncio.wait([interrupted], timeout=3.5)
            assert not interrupted.done()
            interrupted.cancel()
            assert await say_until_heard(saying(store, "one", "hello"), listener) == b"hello"


async def until_interrupted(notices: Notices) -> None:
    while notices.connected.is_set():
        await asyncio.sleep(0.01)

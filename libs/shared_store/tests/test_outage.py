"""A server that is known to be away is not asked; it is found back without anybody's asking. And WAIT."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.errors import NotReplicated, StoreAway, StoreUnavailable
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue
from shared_store.outage import PROBE_ALONE
from shared_store.store import MOST_CALLS, Store
from shared_store.testing.calls import until_answered
from shared_store.testing.deployments import SLOTS, cluster, sentinel_set
from shared_store.testing.servers import RedisServer, free_port

GET = Call((command("GET", "{x}"),), lambda replies: replies[0])
QUEUE = MailQueue()


def job(number: int) -> MailJob:
    return MailJob(f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


async def test_server_that_hangs_costs_the_first_callers_its_time_out_and_the_others_nothing() -> None:
    with RedisServer("valkey9") as server:
        async with Store(server.url, ConnectionOptions(timeout=1)) as store:
            await store.run(GET)
            server.pause()
            with pytest.raises(StoreUnavailable, match="in time"):
                await store.run(GET)
            commands = store.commands
            for _ in range(100):
                with pytest.raises(StoreAway, match="in time"):
                    await store.run(GET)
            with pytest.raises(StoreAway):
                await store.take("BLMOVE", "{x}a", "{x}b", "LEFT", "RIGHT", "0.1", block=0.1)
            with pytest.raises(StoreAway):
                await store.ping()
            assert store.commands - commands <= 2  # those that were refused before they were sent
            server.resume()
            await until_answered(store, GET, bound=20)


@contextlib.asynccontextmanager
async def far_away(server: RedisServer, *, seconds: float) -> AsyncIterator[str]:
    """Give a URL at which a server's first answer on each connection comes that much later."""

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_unix_connection(server.socket)
            await asyncio.sleep(seconds)
            await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))
        writer.close()

    port = free_port()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield f"redis://127.0.0.1:{port}"


async def test_server_to_which_a_connection_takes_longer_than_a_probe_is_found_back() -> None:
    with RedisServer("valkey9") as server:
        async with far_away(server, seconds=1.5 * PROBE_ALONE) as url, Store(url) as store:
            await store.run(GET)
            server.stop()
            with pytest.raises(StoreUnavailable):
                await store.run(GET)
            server.start()
            await until_answered(store, GET, bound=20)


async def test_callers_that_wait_for_their_turn_are_told_with_the_first_one() -> None:
    with RedisServer("valkey9") as server:
        async with Store(server.url, ConnectionOptions(timeout=1, max_connections=2)) as store:
            await store.run(GET)
            server.pause()
            commands = store.commands
            answers = await asyncio.gather(*(store.run(GET) for _ in range(200)), return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            assert store.commands - commands <= 8
            server.resume()


async def test_more_callers_than_are_reasonable_are_refused_at_once() -> None:
    with RedisServer("valkey9") as server:
        async with Store(server.url, ConnectionOptions(timeout=1)) as store:
            await store.run(GET)
            server.pause()
            waiting = [asyncio.create_task(store.run(GET)) for _ in range(MOST_CALLS)]
            await asyncio.sleep(0)
            with pytest.raises(StoreUnavailable, match="more calls wait"):
                await store.run(GET)
            assert not any(task.done() for task in waiting)
            await asyncio.gather(*waiting, return_exceptions=True)
            server.resume()


@pytest.mark.faults
async def test_cluster_that_lost_one_node_goes_on_being_asked() -> None:
    with contextlib.ExitStack() as stack:
        three = cluster("valkey9", stack)
        for server in three.servers:
            server.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with Store(three.url, ConnectionOptions(timeout=0.3)) as store:
            keys = [f"{{{number}}}" for number in range(12)]
            await asyncio.gather(*(store.run(Call((command("SET", key, key),), list)) for key in keys))
            three.servers[0].pause()
            reached = []
            for key in keys:
                with contextlib.suppress(StoreUnavailable):
                    await store.run(Call((command("GET", key),), list))
                    reached.append(key)
            three.servers[0].resume()
            slots = {key: int(three.servers[0].ask("CLUSTER", "KEYSLOT", key)) for key in keys}
            assert reached == [key for key in keys if slots[key] >= SLOTS // 3]


async def test_job_counts_as_queued_only_once_the_replica_has_it() -> None:
    with contextlib.ExitStack() as stack:
        pair = sentinel_set("valkey9", stack, sentinels=1)
        replica = pair.servers[1]
        waiting = ConnectionOptions(timeout=2, wait_replicas=1, wait_timeout=1)
        async with Store(pair.url, waiting) as store:
            for number in range(3):  # the first one loads the script
                await store.run(QUEUE.enqueue(job(number), bound=10))
                assert replica.ask("HEXISTS", "mail:{mail}:jobs", f"job-{number}")
            replica.pause()
            began = time.monotonic()
            with pytest.raises(NotReplicated, match="0 of the 1 replicas"):
                await store.run(QUEUE.enqueue(job(7), bound=10))
            assert time.monotonic() - began >= 1
            await store.run(GET)  # what need not last does not wait
            replica.resume()
            assert (await QUEUE.depth(store)).ready >= 1


@pytest.mark.faults
async def test_job_in_a_cluster_waits_for_the_replica_of_its_own_node() -> None:
    with contextlib.ExitStack() as stack:
        six = cluster("valkey9", stack, replicas=3)
        async with Store(six.url, ConnectionOptions(timeout=2, wait_replicas=1, wait_timeout=1)) as store:
            for tag in "abcdef":
                queue = MailQueue(tag)
                put = Call((command("SET", "{elsewhere}", "1"),), list)
                await store.run_all(put, queue.enqueue(job(1), bound=10))
            for replica in six.servers[3:]:
                replica.pause()
            with pytest.raises(NotReplicated):
                await store.run(QUEUE.enqueue(job(2), bound=10))
            for replica in six.servers[3:]:
                replica.resume()

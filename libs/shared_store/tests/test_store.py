"""How calls are sent: in one round trip, with scripts loaded as needed, within a bound, and closed without a trace."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from dataclasses import replace

import pytest

from shared_store import auth_codes, fetch_cache, logins, rate_limits
from shared_store.batching import Batching
from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.errors import CorruptRecord, StoreError, StoreUnavailable
from shared_store.logins import CodeStatus, StoredLogin, new_session_id
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue
from shared_store.rate_limits import Counter
from shared_store.store import Store
from shared_store.testing.deployments import Deployment
from shared_store.testing.servers import RedisServer, wait_until

LOGIN = StoredLogin(json.dumps({"client_id": "https://site.example"}), json.dumps({"email": "a@b.example"}))
COUNTERS = [Counter(f"limit-{number}", ("a@b.example",), 5, 60) for number in range(4)]
QUEUE = MailQueue()


def job(number: int) -> MailJob:
    return MailJob(f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


def get(key: str) -> Call[object]:
    return Call((command("GET", key),), lambda replies: replies[0])


def put(key: str, value: str) -> Call[None]:
    return Call((command("SET", key, value),), lambda _: None)


async def until_it_is_back(store: Store) -> None:
    """Wait until calls are sent again after an outage."""
    async with asyncio.timeout(20):
        while True:
            try:
                await store.ping()
            except StoreUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


def calls_on(where: Deployment) -> dict[str, int]:
    """How often each command was sent by clients since the counts were reset, over all masters."""
    counts: dict[str, int] = {}
    for server in where.masters():
        for name, values in server.ask("INFO", "commandstats").items():
            counts[name] = counts.get(name, 0) + values["calls"]
    return counts


def reset_counts(where: Deployment) -> None:
    for server in where.masters():
        server.ask("CONFIG", "RESETSTAT")


async def test_login_waits_on_redis_no_more_than_its_budget_and_the_server_counts_the_same(
    store: Store, any_server: Deployment
) -> None:
    async def whole_login(number: int) -> list[int]:
        waits = [store.round_trips]
        await store.run_all(rate_limits.hit(COUNTERS), fetch_cache.read("https://b.example"))
        session = new_session_id()
        save = logins.save_for_code(session, LOGIN, code="abc123", browser_secret="b", ttl=900)
        await store.run_all(save, QUEUE.enqueue(job(number), bound=100))
        waits.append(store.round_trips)
        check = await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="o"))
        assert check.status is CodeStatus.RIGHT
        waits.append(store.round_trips)
        code = auth_codes.new_auth_code()
        await store.run(auth_codes.save(code, grant="g", claims="c", ttl=60))
        waits.append(store.round_trips)
        token = auth_codes.new_access_token(code)
        assert await store.run(auth_codes.take(code, access_token=token, access_ttl=60, operation="o"))
        waits.append(store.round_trips)
        return [after - before for before, after in itertools.pairwise(waits)]

    for number in range(20):  # until every node has every script
        await whole_login(number)
    reset_counts(any_server)
    commands = store.commands
    waits = [await whole_login(number) for number in range(20, 25)]
    assert all(sum(wait) <= 5 + 2 * 5 for wait in waits)
    assert min(waits) == [2, 1, 1, 1]
    counted = calls_on(any_server)
    assert counted["cmdstat_evalsha"] + counted.get("cmdstat_eval", 0) == store.commands - commands
    assert store.commands - commands >= 5 * (4 + 1 + 2 + 1 + 1 + 1)


async def test_values_come_back_in_the_order_of_the_calls(store: Store) -> None:
    for number in range(3):
        await store.run(put(f"{{{number}}}", str(number)))
    before = store.round_trips, store.commands
    assert await store.run_all(get("{2}"), get("{0}"), get("{1}")) == (b"2", b"0", b"1")
    assert (store.round_trips - before[0], store.commands - before[1]) == (1, 3)
    three = Call(tuple(command("GET", f"{{{number}}}") for number in range(3)), list)
    assert await store.run_all(three, get("{3}")) == ([b"0", b"1", b"2"], None)


async def test_scripts_that_the_server_forgot_are_loaded_again(store: Store, any_server: Deployment) -> None:
    await store.run(rate_limits.hit(COUNTERS))
    for server in any_server.masters():
        server.ask("SCRIPT", "FLUSH")
    before = store.round_trips
    counts = await store.run(rate_limits.hit(COUNTERS))
    assert [count.hits for count in counts] == [2, 2, 2, 2]
    assert store.round_trips - before == 2
    [server, *_] = any_server.masters()
    server.ask("SCRIPT", "FLUSH")
    [one] = await store.run(rate_limits.hit(COUNTERS[:1]))
    assert one.hits == 3


async def test_pipeline_of_known_and_unknown_scripts_runs_each_once(store: Store, any_server: Deployment) -> None:
    for server in any_server.masters():
        server.ask("SCRIPT", "FLUSH")
    await store.run(rate_limits.hit(COUNTERS))
    session = new_session_id()
    save = logins.save_for_code(session, LOGIN, code="a", browser_secret="b", ttl=900)
    counts, _, none = await store.run_all(rate_limits.hit(COUNTERS), save, fetch_cache.read("https://a"))
    assert [count.hits for count in counts] == [2, 2, 2, 2]
    assert none is None
    assert await store.run(logins.load(session)) == LOGIN


async def test_call_that_fails_is_told_and_the_others_were_carried_out(store: Store) -> None:
    await store.client.rpush("{list}", "x")
    with pytest.raises(CorruptRecord):
        await store.run_all(put("{before}", "1"), get("{list}"), put("{after}", "2"))
    assert await store.run_all(get("{before}"), get("{after}")) == (b"1", b"2")


async def test_reply_that_cannot_be_decoded_is_told_as_corrupt(store: Store) -> None:
    with pytest.raises(CorruptRecord):
        await store.run(Call((command("GET", "{x}"),), lambda replies: int(replies[0])))


async def test_word_that_cannot_be_sent_is_told_as_an_error_of_the_store(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.run(put("{x}", "\ud800"))
    await store.ping()


async def test_more_callers_than_connections_wait_their_turn(any_server: Deployment) -> None:
    options = replace(any_server.options, max_connections=3, timeout=30)
    async with Store(any_server.url, options) as store:
        keys = [f"{{{number}}}" for number in range(300)]
        await asyncio.gather(*(store.run(put(key, key)) for key in keys))
        assert await asyncio.gather(*(store.run(get(key)) for key in keys)) == [key.encode() for key in keys]
        pairs = zip(keys, reversed(keys), strict=True)
        replies = await asyncio.gather(*(store.run_all(get(one), get(other)) for one, other in pairs))
        assert [one for one, _ in replies] == [key.encode() for key in keys]
        for server in any_server.masters():
            assert int(server.ask("INFO", "clients")["connected_clients"]) < 60


async def test_cancelled_calls_leave_no_reply_to_the_next(store: Store, any_server: Deployment) -> None:
    keys = [f"{{{number}}}" for number in range(30)]
    for key in keys:
        await store.run(put(key, key))
    for server in any_server.masters():
        server.ask("CLIENT", "PAUSE", 250)
    calls = [asyncio.create_task(store.run_all(get(key), get(keys[0]))) for key in keys]
    calls += [asyncio.create_task(store.run_all(get(key), get(key))) for key in keys]
    await asyncio.wait(calls, timeout=0.05)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    for key in keys:
        assert await store.run(get(key)) == key.encode()
        assert await store.run_all(get(key), get(keys[1])) == (key.encode(), keys[1].encode())


async def test_closed_store_leaves_no_connection(any_server: Deployment) -> None:
    def connected() -> int:
        clients = [line for server in any_server.servers for line in server.ask("CLIENT LIST")]
        return sum(client["name"] == "to-be-closed" for client in clients)

    options = replace(any_server.options, client_name="to-be-closed")
    async with Store(any_server.url, options) as store:
        await asyncio.gather(*(store.run(rate_limits.hit(COUNTERS)) for _ in range(20)))
        await store.take("BLMOVE", "{x}a", "{x}b", "RIGHT", "LEFT", "0.05", block=0.05)
        assert connected() > 0
    await asyncio.to_thread(wait_until, lambda: connected() == 0)
    gc.collect()
    assert len(asyncio.all_tasks()) == 1


async def test_blocking_take_that_is_cut_is_not_sent_again(store: Store, any_server: Deployment) -> None:
    taking = asyncio.create_task(QUEUE.wait_for_job(store, "w", block=10))

    def blocked_on() -> list[RedisServer]:
        return [server for server in any_server.masters() if int(server.ask("INFO", "clients")["blocked_clients"]) > 0]

    await asyncio.to_thread(wait_until, blocked_on)
    [server] = blocked_on()
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(StoreUnavailable):
        await taking
    assert not blocked_on()
    for number in range(2):
        await store.run(QUEUE.enqueue(job(number), bound=10))
    assert (await QUEUE.depth(store)).ready == 2
    assert await QUEUE.wait_for_job(store, "w", block=10)
    assert (await QUEUE.depth(store)).ready == 1


async def test_take_may_block_longer_than_the_one_before_it(valkey_store: Store) -> None:
    assert not await QUEUE.wait_for_job(valkey_store, "w", block=0.01)
    assert not await QUEUE.wait_for_job(valkey_store, "w", block=2.2)


@pytest.mark.parametrize("kind", ["valkey9", "redis7"])
async def test_call_to_a_stopped_server_ends_in_its_time_and_the_next_is_answered(kind: str) -> None:
    with RedisServer(kind) as server:
        async with Store(server.url, ConnectionOptions(timeout=0.2)) as store:
            for key in "abc":
                await store.run(put(key, key))
            server.pause()
            async with asyncio.timeout(20):
                with pytest.raises(StoreUnavailable, match="in time"):
                    await store.run(get("a"))
                with pytest.raises(StoreUnavailable, match="in time"):
                    await store.run_all(get("a"), get("b"))
            server.resume()
            await until_it_is_back(store)
            for key in "abc":
                assert await store.run(get(key)) == key.encode()
                assert await store.run_all(get(key), get("c")) == (key.encode(), b"c")


@pytest.mark.parametrize("kind", ["valkey9", "redis7"])
async def test_call_after_a_restart_works_without_more_ado(kind: str) -> None:
    with RedisServer(kind) as server:
        async with Store(server.url) as store:
            await asyncio.gather(*(store.run(rate_limits.hit(COUNTERS)) for _ in range(10)))
            server.kill()
            with pytest.raises(StoreUnavailable, match="reached"):
                await store.run(rate_limits.hit(COUNTERS))
            with pytest.raises(StoreUnavailable):
                await QUEUE.wait_for_job(store, "w", block=0.1)
            server.start()
            await until_it_is_back(store)
            counts = await store.run(rate_limits.hit(COUNTERS))
            assert [count.hits for count in counts] == [1, 1, 1, 1]
            assert not await QUEUE.wait_for_job(store, "w", block=0.1)


async def test_store_can_be_closed_unused_and_twice(any_server: Deployment) -> None:
    store = Store(any_server.url, any_server.options)
    await store.aclose()
    await store.aclose()


async def test_calls_of_many_tasks_go_in_few_round_trips_and_each_gets_its_own_value(store: Store) -> None:
    batching = Batching(store)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(batching.work())
        before = store.round_trips
        answers = await asyncio.gather(*(batching.run(echo(number)) for number in range(50)))
        assert answers == list(range(50))
        assert store.round_trips - before < 10
        working.cancel()


async def test_call_that_cannot_be_carried_out_fails_alone_in_its_batch(store: Store) -> None:
    batching = Batching(store)
    wrong = Call((command("LLEN", "a string"),), lambda replies: replies[0])
    await store.client.set("a string", "")
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(batching.work())
        calls = [batching.run(echo(1)), batching.run(wrong), batching.run(echo(2))]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [answers[0], answers[2]] == [1, 2]
        assert isinstance(answers[1], CorruptRecord)
        working.cancel()


async def test_caller_that_is_cancelled_leaves_the_others_of_its_batch_alone(store: Store) -> None:
    batching = Batching(store)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(batching.work())
        gone = asyncio.ensure_future(batching.run(echo(1)))
        other = asyncio.ensure_future(batching.run(echo(2)))
        await asyncio.sleep(0)
        gone.cancel()
        assert await other == 2
        working.cancel()


def echo(number: int) -> Call[int]:
    return Call((command("SETRANGE", f"echo-{number}", 0, "." * number),), lambda replies: replies[0])

"""Counters that end by themselves, on every server."""

from __future__ import annotations

import asyncio

import pytest

from shared_store import rate_limits
from shared_store.rate_limits import Counter
from shared_store.store import Store

ADDRESS = Counter("mails", ("someone@example.org",), count=5, window=60)


async def test_of_100_hits_at_once_at_a_limit_of_5_exactly_5_pass(store: Store) -> None:
    counts = await asyncio.gather(*(store.run(rate_limits.hit([ADDRESS])) for _ in range(100)))
    assert sum(not count.exceeded for [count] in counts) == 5
    assert sorted(count.hits for [count] in counts) == list(range(1, 101))


async def test_hit_begins_a_window_that_later_hits_leave_alone(store: Store) -> None:
    await store.run(rate_limits.hit([ADDRESS]))
    await store.client.pexpire(ADDRESS.key, 20_000)
    [count] = await store.run(rate_limits.hit([ADDRESS]))
    assert (count.hits, count.exceeded) == (2, False)
    assert 0 < count.seconds_left <= 20


async def test_extended_window_begins_anew_at_every_hit(store: Store) -> None:
    counter = Counter("guesses", ("192.0.2.1",), count=1, window=60, extend_window=True)
    await store.run(rate_limits.hit([counter]))
    await store.client.pexpire(counter.key, 1000)
    [count] = await store.run(rate_limits.hit([counter]))
    assert (count.hits, count.exceeded, count.seconds_left) == (2, True, 60)
    assert 50_000 < await store.client.pttl(counter.key) <= 60_000


async def test_counter_that_lost_its_window_gets_a_new_one(store: Store) -> None:
    await store.client.set(ADDRESS.key, 3)
    [count] = await store.run(rate_limits.hit([ADDRESS]))
    assert (count.hits, count.seconds_left) == (4, 60)


async def test_several_counters_are_hit_in_one_round_trip(store: Store) -> None:
    counters = [Counter(f"limit-{number}", ("x",), count=number, window=60) for number in range(4)]
    await store.run(rate_limits.hit(counters))
    before = store.round_trips, store.commands
    counts = await store.run(rate_limits.hit(counters))
    assert (store.round_trips - before[0], store.commands - before[1]) == (1, 4)
    assert [count.exceeded for count in counts] == [True, True, False, False]
    assert [count.counter for count in counts] == counters


async def test_look_reads_without_counting(store: Store) -> None:
    [none] = await store.run(rate_limits.look([ADDRESS]))
    await store.run(rate_limits.hit([ADDRESS]))
    for _ in range(2):
        [one] = await store.run(rate_limits.look([ADDRESS]))
    assert (none.hits, one.hits) == (0, 1)


async def test_refund_gives_one_back_and_keeps_the_window(store: Store) -> None:
    for _ in range(3):
        await store.run(rate_limits.hit([ADDRESS]))
    await store.client.pexpire(ADDRESS.key, 20_000)
    await store.run(rate_limits.refund([ADDRESS.key]))
    [count] = await store.run(rate_limits.look([ADDRESS]))
    assert count.hits == 2
    assert 15_000 < await store.client.pttl(ADDRESS.key) <= 20_000


async def test_refund_to_nothing_removes_the_counter_and_more_of_them_change_nothing(store: Store) -> None:
    await store.run(rate_limits.hit([ADDRESS]))
    for _ in range(3):
        await store.run(rate_limits.refund([ADDRESS.key]))
    assert await store.client.exists(ADDRESS.key) == 0
    [count] = await store.run(rate_limits.hit([ADDRESS]))
    assert count.hits == 1


async def test_nothing_to_count_asks_nothing(store: Store) -> None:
    before = store.round_trips
    assert await store.run(rate_limits.hit([])) == []
    assert await store.run(rate_limits.look([])) == []
    await store.run(rate_limits.refund([]))
    assert store.round_trips == before


def test_counters_of_other_values_have_other_keys_and_no_key_holds_a_value() -> None:
    keys = {Counter("l", values, 1, 1).key for values in (("a", "b"), ("ab",), ("a",), ("b", "a"), ("a\x00b",))}
    assert len(keys) >= 4
    assert "example" not in ADDRESS.key


@pytest.mark.parametrize("junk", [("SET", b"\xffjunk"), ("SET", "9" * 30), ("RPUSH", "x"), ("HSET", "x", "y")])
async def test_junk_under_a_counter_counts_as_none_and_goes(store: Store, junk: tuple[str | bytes, ...]) -> None:
    async def put() -> None:
        await store.client.delete(ADDRESS.key)
        await store.client.execute_command(junk[0], ADDRESS.key, *junk[1:])

    await put()
    assert [count.hits for count in await store.run(rate_limits.look([ADDRESS]))] == [0]
    await store.run(rate_limits.refund([ADDRESS.key]))
    await put()
    [count] = await store.run(rate_limits.hit([ADDRESS]))
    assert count.hits == 1
    assert count.seconds_left == 60

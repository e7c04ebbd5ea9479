"""Locks, on every server: one holder at a time, and nothing undone for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared_store.errors import LockLost
from shared_store.keyspace import LOCK, UNLOCKED_CHANNEL
from shared_store.locks import Lock, Locks, _call
from shared_store.notices import Notices
from shared_store.store import Store

KEY = LOCK.key(name="rotation")


@pytest.fixture
async def locks(store: Store) -> AsyncIterator[Locks]:
    notices = Notices(store)
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(notices.run())
        with notices.listen(UNLOCKED_CHANNEL):
            await asyncio.wait_for(notices.connected.wait(), 20)
            yield Locks(store, notices)
        listening.cancel()


async def test_of_100_takers_at_once_one_gets_the_lock(store: Store) -> None:
    locks = Locks(store, Notices(store))
    taken = await asyncio.gather(*(locks.try_take("rotation", ttl=20) for _ in range(100)))
    [lock] = [lock for lock in taken if lock is not None]
    assert await store.client.get(KEY) == lock.token.encode()
    assert 15_000 < await store.client.pttl(KEY) <= 20_000


async def test_take_sent_again_has_the_lock_still(store: Store) -> None:
    lock = Lock("rotation", "token", 20)
    assert await store.run(_call(lock, "take"))
    await store.client.pexpire(KEY, 5000)
    assert await store.run(_call(lock, "take"))
    assert 15_000 < await store.client.pttl(KEY) <= 20_000


async def test_extend_gives_the_whole_life_again(store: Store) -> None:
    locks = Locks(store, Notices(store))
    lock = await locks.try_take("rotation", ttl=20)
    assert lock is not None
    await store.client.pexpire(KEY, 1000)
    await locks.extend(lock)
    await locks.extend(lock)
    assert 15_000 < await store.client.pttl(KEY) <= 20_000


async def test_holder_whose_lock_expired_is_told_and_undoes_nothing(store: Store) -> None:
    locks = Locks(store, Notices(store))
    first = await locks.try_take("rotation", ttl=20)
    assert first is not None
    await store.client.delete(KEY)
    with pytest.raises(LockLost):
        await locks.extend(first)
    assert await store.client.exists(KEY) == 0
    second = await locks.try_take("rotation", ttl=20)
    assert second is not None
    with pytest.raises(LockLost):
        await locks.extend(first)
    await locks.release(first)
    assert await store.client.get(KEY) == second.token.encode()


async def test_released_lock_can_be_taken_and_release_sent_again_changes_nothing(store: Store) -> None:
    locks = Locks(store, Notices(store))
    first = await locks.try_take("rotation", ttl=20)
    assert first is not None
    await locks.release(first)
    second = await locks.try_take("rotation", ttl=20)
    await locks.release(first)
    assert second is not None
    assert await store.client.get(KEY) == second.token.encode()


async def test_locks_of_other_names_do_not_wait_on_each_other(store: Store) -> None:
    locks = Locks(store, Notices(store))
    taken = [await locks.try_take(name, ttl=20) for name in ("a", "b", "c")]
    assert None not in taken


async def test_waiter_takes_the_lock_when_it_is_released(locks: Locks) -> None:
    first = await locks.try_take("rotation", ttl=20)
    assert first is not None
    async with asyncio.TaskGroup() as tasks:
        waiter = tasks.create_task(locks.take("rotation", ttl=20, wait=20))
        await asyncio.sleep(0)
        await locks.release(first)
    second = waiter.result()
    assert second is not None
    assert second.token != first.token


async def test_waiter_is_told_when_its_time_is_up(locks: Locks) -> None:
    await locks.try_take("rotation", ttl=20)
    assert await locks.take("rotation", ttl=20, wait=0.05) is None


async def test_many_waiters_hold_the_lock_one_after_another(locks: Locks) -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        lock = await locks.take("rotation", ttl=20, wait=60)
        assert lock is not None
        inside += 1
        assert inside == 1
        await asyncio.sleep(0)
        inside -= 1
        await locks.release(lock)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(work())


async def test_holding_releases_at_the_end_and_gives_none_to_a_second(store: Store) -> None:
    locks = Locks(store, Notices(store))
    async with locks.holding("rotation", ttl=20) as first:
        assert first is not None
        async with locks.holding("rotation", ttl=20) as second:
            assert second is None
        assert await store.client.exists(KEY) == 1
    assert await store.client.exists(KEY) == 0


@pytest.mark.parametrize("junk", [("RPUSH", "x"), ("SET", b"\xff" * 5_000_000)])
async def test_junk_under_a_lock_that_nobody_could_release_is_taken_over(
    store: Store, junk: tuple[str, str | bytes]
) -> None:
    await store.client.execute_command(junk[0], KEY, junk[1])
    locks = Locks(store, Notices(store))
    lock = await locks.try_take("rotation", ttl=20)
    assert lock is not None
    assert await locks.try_take("rotation", ttl=20) is None
    await locks.extend(lock)

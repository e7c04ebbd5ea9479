"""Something else lies where the keys should: what a rotator remembers comes back; what nobody knows is left alone."""

from __future__ import annotations

import asyncio

import pytest

from key_rotator.errors import KeysNotReadyError
from shared_store.errors import CorruptRecord
from shared_store.keyspace import LOCK
from shared_store.store import Store

from .rotating import KEY, ready, rotating, stored, until

JUNK = b"\xff" * 5_000_000


async def is_mended(store: Store, *, above: int) -> bool:
    try:
        return (await stored(store)).version > above
    except CorruptRecord:
        return False


async def test_junk_under_the_key_is_told_and_left_alone(store: Store) -> None:
    await store.client.hset(KEY, mapping={"version": "3", "current": b"\xff", "next": "{}", "previous": "["})
    async with rotating(store) as (rotator, registry):
        await until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
        with pytest.raises(KeysNotReadyError, match="can't be read: restore or import"):
            rotator.check_ready()
    assert await store.client.hget(KEY, "current") == b"\xff"


@pytest.mark.parametrize(
    "junk",
    [
        ("SET", JUNK),
        ("HSET", "current", JUNK),
        ("HSET", "version", b"\xffjunk", "current", "{}"),
        ("HSET", "version", "9" * 5000, "previous", "["),
    ],
)
async def test_junk_over_keys_that_are_remembered_makes_way_for_them(
    valkey_store: Store, junk: tuple[str | bytes, ...]
) -> None:
    async with rotating(valkey_store) as (first, _one), rotating(valkey_store) as (second, _two):
        await until(lambda: ready(first) and ready(second))
        before = await stored(valkey_store)
        if junk[0] == "SET":
            await valkey_store.client.delete(KEY)
        await valkey_store.client.execute_command(junk[0], KEY, *junk[1:])
        async with asyncio.timeout(20):
            while not await is_mended(valkey_store, above=before.version):
                await valkey_store.client.publish("keys-updated", KEY)
                await asyncio.sleep(0.01)
        await until(lambda: ready(first) and ready(second))
        after = await stored(valkey_store)
    assert (after.current, after.next, after.previous) == (before.current, before.next, before.previous)


async def test_unreadable_keys_of_a_newer_version_are_told_and_left_alone(valkey_store: Store) -> None:
    async with rotating(valkey_store) as (rotator, _):
        await until(lambda: ready(rotator))
        version = (await stored(valkey_store)).version
        await valkey_store.client.hset(KEY, mapping={"version": version + 1, "current": "of a format of tomorrow"})
        async with asyncio.timeout(20):
            while ready(rotator):
                await valkey_store.client.publish("keys-updated", KEY)
                await asyncio.sleep(0.01)
        with pytest.raises(KeysNotReadyError, match="can't be read: restore or import"):
            rotator.check_ready()
    assert await valkey_store.client.hget(KEY, "current") == b"of a format of tomorrow"


@pytest.mark.parametrize("junk", [("SET", JUNK), ("RPUSH", "x")])
async def test_junk_under_the_lock_does_not_stop_the_rotation(
    valkey_store: Store, junk: tuple[str | bytes, ...]
) -> None:
    await valkey_store.client.execute_command(junk[0], LOCK.key(name="rotate-EdDSA"), *junk[1:])
    async with rotating(valkey_store) as (rotator, _):
        await until(lambda: ready(rotator))

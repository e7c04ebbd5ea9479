"""Key sets, on every server: a version that only grows, and of concurrent writers one."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from shared_store.errors import CorruptRecord, KeySetConflict
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.keyspace import KEY_SET, KEYS_UPDATED_CHANNEL
from shared_store.notices import Notices
from shared_store.sealing import Sealer, SealError
from shared_store.signing_keys import generate
from shared_store.store import Store
from shared_store.testing.notices import next_notice

A, B, C = (PublishedKey(generate("EdDSA"), 1.0, 2.0, 3.0, 4.0) for _ in range(3))
FIRST = KeySet("EdDSA", 1, current=A, next=B)
SECOND = KeySet("EdDSA", 2, current=B, next=C, previous=(A,))
KEY = KEY_SET.key(alg="EdDSA")
PLAIN = KeySets(Sealer())


async def test_no_key_set_is_told_with_the_server_time(store: Store) -> None:
    loaded = await store.run(PLAIN.load("EdDSA"))
    assert loaded.key_set is None
    assert abs(loaded.time - time.time()) < 60


@pytest.mark.parametrize("secrets", [[], ["k" * 32]])
async def test_key_set_is_read_as_it_was_written(store: Store, secrets: list[str]) -> None:
    key_sets = KeySets(Sealer(secrets))
    await store.run(key_sets.replace(FIRST, expected_version=0))
    assert (await store.run(key_sets.load("EdDSA"))).key_set == FIRST
    await store.run(key_sets.replace(SECOND, expected_version=1))
    loaded = (await store.run(key_sets.load("EdDSA"))).key_set
    assert loaded == SECOND
    assert loaded.sealed_as_configured
    assert [published.key.kid for published in loaded.published()] == [B.key.kid, C.key.kid, A.key.kid]
    assert await store.client.ttl(KEY) == -1


async def test_key_sets_of_algorithms_are_apart(store: Store) -> None:
    await store.run(PLAIN.replace(FIRST, expected_version=0))
    assert (await store.run(PLAIN.load("RS256"))).key_set is None


async def test_write_sent_again_gets_the_same_answer(store: Store) -> None:
    call = PLAIN.replace(FIRST, expected_version=0)
    await store.run(call)
    before = await store.client.hgetall(KEY)
    await store.run(call)
    assert await store.client.hgetall(KEY) == before


async def test_late_writer_is_refused(store: Store) -> None:
    await store.run(PLAIN.replace(FIRST, expected_version=0))
    await store.run(PLAIN.replace(SECOND, expected_version=1))
    for version in (0, 1, 3):
        late = dataclasses.replace(FIRST, version=9)
        with pytest.raises(KeySetConflict):
            await store.run(PLAIN.replace(late, expected_version=version))
    assert (await store.run(PLAIN.load("EdDSA"))).key_set == SECOND


async def test_of_50_writers_at_once_exactly_one_wins(store: Store) -> None:
    await store.run(PLAIN.replace(FIRST, expected_version=0))

    async def write(number: int) -> KeySet | None:
        mine = dataclasses.replace(SECOND, previous=(dataclasses.replace(A, published_until=float(number)),))
        try:
            await store.run(PLAIN.replace(mine, expected_version=1))
        except KeySetConflict:
            return None
        return mine

    written = await asyncio.gather(*(write(number) for number in range(50)))
    [winner] = [key_set for key_set in written if key_set is not None]
    assert (await store.run(PLAIN.load("EdDSA"))).key_set == winner


def test_version_that_does_not_grow_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="grows"):
        PLAIN.replace(FIRST, expected_version=1)


async def test_write_is_told_to_everyone(store: Store) -> None:
    notices = Notices(store)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(notices.run())
        with notices.listen(KEYS_UPDATED_CHANNEL) as listener:
            await asyncio.wait_for(notices.connected.wait(), 20)
            await store.run(PLAIN.replace(FIRST, expected_version=0))
            assert await next_notice(listener) == KEY.encode()
        task.cancel()


async def test_sealed_set_needs_its_key_and_shows_when_it_should_be_sealed_anew(store: Store) -> None:
    await store.run(KeySets(Sealer(["old"])).replace(FIRST, expected_version=0))
    assert "PRIVATE" not in repr(await store.client.hgetall(KEY))
    with pytest.raises(SealError):
        await store.run(KeySets(Sealer(["new"])).load("EdDSA"))
    loaded = (await store.run(KeySets(Sealer(["new", "old"])).load("EdDSA"))).key_set
    assert loaded == FIRST
    assert not loaded.sealed_as_configured


async def test_private_keys_of_two_records_swapped_are_refused(store: Store) -> None:
    key_sets = KeySets(Sealer(["k"]))
    await store.run(key_sets.replace(FIRST, expected_version=0))
    current = await store.client.hget(KEY, "current")
    assert isinstance(current, bytes)
    await store.client.hset(KEY, "current", current.replace(A.key.kid.encode(), B.key.kid.encode()))
    with pytest.raises(SealError):
        await store.run(key_sets.load("EdDSA"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", b"x"),
        ("version", b"\xff"),
        ("current", b"\xff"),
        ("current", b"null"),
        ("current", b"[]"),
        ("current", b'"x"'),
        ("current", b"{}"),
        ("next", b"[" * 100_000),
        ("previous", b"{}x"),
        ("previous", b"7"),
        ("previous", b"[7]"),
    ],
)
async def test_junk_in_a_key_set_is_told_as_corrupt(store: Store, field: str, value: bytes) -> None:
    await store.run(PLAIN.replace(FIRST, expected_version=0))
    await store.client.hset(KEY, field, value)
    with pytest.raises(CorruptRecord):
        await store.run(PLAIN.load("EdDSA"))


async def test_another_type_under_a_key_set_is_told_as_corrupt(store: Store) -> None:
    await store.client.set(KEY, '{"a": "string, as older brokers write"}')
    with pytest.raises(CorruptRecord):
        await store.run(PLAIN.load("EdDSA"))
    with pytest.raises(CorruptRecord):
        await store.run(PLAIN.replace(FIRST, expected_version=0))


async def test_private_keys_are_not_in_a_repr(store: Store) -> None:
    await store.run(PLAIN.replace(FIRST, expected_version=0))
    text = repr(await store.run(PLAIN.load("EdDSA")))
    assert "PRIVATE" not in text
    assert A.key.private_pem.splitlines()[1] not in text

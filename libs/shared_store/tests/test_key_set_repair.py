from dataclasses import replace

import pytest

from shared_store.errors import CorruptRecord, KeySetConflict
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.keyspace import KEY_SET
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate
from shared_store.store import Store

KEY_SETS = KeySets(Sealer())
KEY = KEY_SET.key(alg="EdDSA")


def _key_set() -> KeySet:
    current, following = (PublishedKey(generate("EdDSA"), 1, 1, 2) for _ in range(2))
    return KeySet("EdDSA", 5, current, following)


@pytest.mark.parametrize("words", [("SET", b"\xff"), ("HSET", "version", "9", "current", "junk"), ("RPUSH", "x"), None])
async def test_key_set_that_expects_nothing_overwrites_whatever_is_there(
    store: Store, words: tuple[str | bytes, ...] | None
) -> None:
    if words is not None:
        await store.client.execute_command(words[0], KEY, *words[1:])
        with pytest.raises(CorruptRecord):
            await store.run(KEY_SETS.load("EdDSA"))
    key_set = _key_set()
    await store.run(KEY_SETS.replace(key_set, expected_version=None))
    assert (await store.run(KEY_SETS.load("EdDSA"))).key_set == key_set


async def test_overwriting_sent_twice_is_one_write_and_ends_the_claims_of_late_writers(store: Store) -> None:
    key_set = _key_set()
    call = KEY_SETS.replace(key_set, expected_version=None)
    await store.run(call)
    await store.run(call)
    with pytest.raises(KeySetConflict):
        await store.run(KEY_SETS.replace(replace(key_set, version=9), expected_version=4))

from dataclasses import replace

from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate
from shared_store.store import Store


async def test_key_that_was_read_before_is_not_checked_again(valkey_store: Store) -> None:
    key_sets = KeySets(Sealer(["k" * 32]))
    first, second, third = (PublishedKey(generate("EdDSA"), 1, 1, 2) for _ in range(3))
    await valkey_store.run(key_sets.replace(KeySet("EdDSA", 1, first, second), expected_version=0))
    before = (await valkey_store.run(key_sets.load("EdDSA"))).key_set
    assert before is not None
    await valkey_store.run(key_sets.replace(KeySet("EdDSA", 2, second, third, (first,)), expected_version=1))
    after = (await valkey_store.run(key_sets.load("EdDSA"))).key_set
    assert after is not None
    assert after.current.key is before.next.key
    assert after.previous[0].key is before.current.key
    assert after == KeySet("EdDSA", 2, second, third, (first,))


async def test_key_that_left_the_set_is_forgotten(valkey_store: Store) -> None:
    key_sets = KeySets(Sealer())
    first, second, third = (PublishedKey(generate("EdDSA"), 1, 1, 2) for _ in range(3))
    key_set = KeySet("EdDSA", 1, first, second)
    await valkey_store.run(key_sets.replace(key_set, expected_version=0))
    await valkey_store.run(key_sets.load("EdDSA"))
    await valkey_store.run(key_sets.replace(replace(key_set, version=2, current=third), expected_version=1))
    await valkey_store.run(key_sets.load("EdDSA"))
    assert set(key_sets._checked["EdDSA"]) == {third.key.private_pem, second.key.private_pem}

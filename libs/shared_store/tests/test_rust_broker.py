import json
from typing import Any

import pytest

from shared_store.errors import CorruptRecord
from shared_store.rust_broker import RustKey, RustKeySet, load_rust_key_set
from shared_store.signing_keys import SigningKey, generate
from shared_store.store import Store

EXPIRES = {"secs_since_epoch": 1795000000, "nanos_since_epoch": 120000000}


@pytest.fixture(scope="module")
def keys() -> list[SigningKey]:
    return [generate("EdDSA") for _ in range(3)]


def _record(keys: list[SigningKey]) -> dict[str, Any]:
    return {
        "signing_alg": "EdDSA",
        "current": {"value": keys[0].private_pem, "expires": EXPIRES},
        "next": {"value": keys[1].private_pem, "expires": EXPIRES | {"secs_since_epoch": 1795086400}},
        "previous": keys[2].private_pem,
    }


async def _write(store: Store, value: str | bytes) -> None:
    await store.client.set("keys:EdDSA", value)


async def test_key_set_of_a_rust_broker_is_read_with_its_expiries(store: Store, keys: list[SigningKey]) -> None:
    await _write(store, json.dumps(_record(keys)))
    assert await store.run(load_rust_key_set("EdDSA")) == RustKeySet(
        "EdDSA", RustKey(keys[0], 1795000000.12), RustKey(keys[1], 1795086400.12), keys[2]
    )
    assert await store.run(load_rust_key_set("RS256")) is None


async def test_null_and_missing_roles_are_no_error(store: Store, keys: list[SigningKey]) -> None:
    await _write(store, json.dumps(_record(keys) | {"current": None, "next": None, "previous": None}))
    assert await store.run(load_rust_key_set("EdDSA")) == RustKeySet("EdDSA", None, None, None)
    await _write(store, json.dumps({"signing_alg": "EdDSA"}))
    assert await store.run(load_rust_key_set("EdDSA")) == RustKeySet("EdDSA", None, None, None)


async def test_what_is_no_key_set_is_told_with_the_reason(store: Store, keys: list[SigningKey]) -> None:
    record = _record(keys)
    far = {"value": keys[0].private_pem, "expires": EXPIRES | {"secs_since_epoch": 10**30}}
    cases: dict[str, Any] = {
        "not JSON": b"\xff\x00{",
        "'signing_alg' is missing": json.dumps({}),
        "algorithm RS256": json.dumps(record | {"signing_alg": "RS256"}),
        "'value' is missing": json.dumps(record | {"next": {"expires": EXPIRES}}),
        "no time": json.dumps(record | {"current": far}),
        "found 0": json.dumps(record | {"previous": "no key"}),
        "another shape": json.dumps([record]),
    }
    for reason, value in cases.items():
        await _write(store, value)
        with pytest.raises(CorruptRecord, match=reason):
            await store.run(load_rust_key_set("EdDSA"))


async def test_key_of_another_type_is_told(store: Store) -> None:
    await store.client.hset("keys:EdDSA", "a", "b")
    with pytest.raises(CorruptRecord, match="another type"):
        await store.run(load_rust_key_set("EdDSA"))

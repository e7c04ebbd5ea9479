"""The log of key events, on every server: written with the change, once, bounded, and never in the way."""

from __future__ import annotations

import dataclasses
import time

import pytest

from shared_store.key_log import MOST_DETAIL, MOST_EVENTS, KeyEvent, log_event, logged
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.keyspace import KEY_LOG
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate
from shared_store.store import Store

A, B = (PublishedKey(generate("EdDSA"), 1.0, 2.0, 3.0, 4.0) for _ in range(2))
FIRST = KeySet("EdDSA", 1, current=A, next=B, revoked=("old-kid",))
KEY = KEY_LOG.key(alg="EdDSA")
PLAIN = KeySets(Sealer())


async def test_change_is_logged_with_its_time_who_made_it_and_what_signs_after_it(store: Store) -> None:
    event = KeyEvent("revoke", by="ann@host", detail="laptop stolen")
    await store.run(PLAIN.replace(FIRST, expected_version=0, event=event))
    [entry] = await store.run(logged("EdDSA"))
    assert entry.event == KeyEvent("revoke", "ann@host", A.key.kid, 1, "laptop stolen")
    assert abs(entry.time - time.time()) < 60
    assert await store.run(logged("RS256")) == []
    assert "PRIVATE" not in repr(await store.client.lrange(KEY, 0, -1))


async def test_change_that_is_refused_is_not_logged(store: Store) -> None:
    await store.run(PLAIN.replace(FIRST, expected_version=0, event=KeyEvent("create")))
    with pytest.raises(Exception, match="changed the EdDSA keys first"):
        await store.run(PLAIN.replace(dataclasses.replace(FIRST, version=9), expected_version=5))
    assert [entry.event.change for entry in await store.run(logged("EdDSA"))] == ["create"]


async def test_change_and_event_sent_again_are_logged_once(store: Store) -> None:
    for call in (PLAIN.replace(FIRST, expected_version=0), log_event("EdDSA", KeyEvent("export"))):
        await store.run(call)
        await store.run(call)
    assert [entry.event.change for entry in await store.run(logged("EdDSA"))] == ["export", "write"]


async def test_log_keeps_the_newest_events_and_cuts_what_is_too_long(store: Store) -> None:
    await store.client.rpush(KEY, *(f"{n} x" for n in range(MOST_EVENTS)))
    await store.run(log_event("EdDSA", KeyEvent("export", detail="d" * 5000)))
    assert await store.client.llen(KEY) == MOST_EVENTS
    [entry] = await store.run(logged("EdDSA"))
    assert len(entry.event.detail) == MOST_DETAIL


@pytest.mark.parametrize(
    "junk", [b"\xff", b"1 [", b"1 {}", b"x {}", b'1 {"change": 1, "by": 2, "kid": 3, "version": "v"}']
)
async def test_entry_that_is_none_is_left_out(store: Store, junk: bytes) -> None:
    await store.run(log_event("EdDSA", KeyEvent("export")))
    await store.client.lpush(KEY, junk)
    assert [entry.event.change for entry in await store.run(logged("EdDSA"))] == ["export"]


async def test_junk_in_the_place_of_the_log_stops_neither_a_change_nor_an_event(store: Store) -> None:
    await store.client.set(KEY, "junk")
    await store.run(log_event("EdDSA", KeyEvent("export")))
    await store.client.delete(KEY)
    await store.client.hset(KEY, "a", "b")
    await store.run(PLAIN.replace(FIRST, expected_version=0))
    assert (await store.run(PLAIN.load("EdDSA"))).key_set == FIRST
    assert len(await store.run(logged("EdDSA"))) == 1

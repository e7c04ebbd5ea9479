"""Cached documents of other servers, on every server."""

from __future__ import annotations

import pytest

from shared_store import fetch_cache
from shared_store.fetch_cache import CachedFetch
from shared_store.keyspace import FETCH, digest
from shared_store.store import Store

URL = "https://idp.example/.well-known/openid-configuration"
KEY = FETCH.key(digest=digest(URL))


async def test_unknown_url_is_not_there(store: Store) -> None:
    assert await store.run(fetch_cache.read(URL)) is None


async def test_document_is_fresh_then_stale_then_gone(store: Store) -> None:
    call = fetch_cache.write(URL, '{"issuer":"é"}', fresh=60, stale=600)
    await store.run(call)
    await store.run(call)
    assert await store.run(fetch_cache.read(URL)) == CachedFetch('{"issuer":"é"}', None, fresh=True)
    assert 650_000 < await store.client.pttl(KEY) <= 660_000
    await store.client.pexpire(KEY, 600_000)  # a minute on
    assert await store.run(fetch_cache.read(URL)) == CachedFetch('{"issuer":"é"}', None, fresh=False)


async def test_failure_is_kept_for_a_short_time(store: Store) -> None:
    call = fetch_cache.write_failure(URL, "refused " * 100, keep=30)
    await store.run(call)
    known = await store.run(fetch_cache.read(URL))
    assert known is not None
    assert (known.document, known.fresh, len(known.failure or "")) == (None, True, 500)
    assert 20_000 < await store.client.pttl(KEY) <= 30_000


async def test_failure_beside_a_document_leaves_the_document_and_its_life(store: Store) -> None:
    await store.run(fetch_cache.write(URL, "document", fresh=0, stale=600))
    for _ in range(2):
        await store.run(fetch_cache.write_failure(URL, "timed out", keep=30))
        assert await store.run(fetch_cache.read(URL)) == CachedFetch("document", "timed out", fresh=True)
        assert 590_000 < await store.client.pttl(KEY) <= 600_000
    await store.client.pexpire(KEY, 560_000)
    assert await store.run(fetch_cache.read(URL)) == CachedFetch("document", "timed out", fresh=False)


async def test_new_document_takes_the_place_of_document_and_failure(store: Store) -> None:
    await store.run(fetch_cache.write_failure(URL, "timed out", keep=30))
    await store.run(fetch_cache.write(URL, "new", fresh=60, stale=60))
    assert await store.run(fetch_cache.read(URL)) == CachedFetch("new", None, fresh=True)
    assert await store.client.pttl(KEY) > 60_000


@pytest.mark.parametrize(
    "junk",
    [("HSET", "document", b"\xff\xfe"), ("HSET", "document", b"\xff", "stale", b"junk"), ("SET", b"\xff" * 5_000_000)],
)
async def test_junk_under_a_fetch_key_counts_as_nothing_and_is_written_over(
    store: Store, junk: tuple[str | bytes, ...]
) -> None:
    await store.client.execute_command(junk[0], KEY, *junk[1:])
    assert await store.run(fetch_cache.read(URL)) is None
    await store.run(fetch_cache.write(URL, "new", fresh=60, stale=60))
    assert await store.run(fetch_cache.read(URL)) == CachedFetch("new", None, fresh=True)
    assert await store.client.pttl(KEY) > 60_000


async def test_document_with_junk_in_place_of_its_time_is_stale(store: Store) -> None:
    await store.client.hset(KEY, mapping={"document": b"x", "stale": b"junk"})
    assert await store.run(fetch_cache.read(URL)) == CachedFetch("x", None, fresh=False)


async def test_failure_beside_a_document_that_is_no_text_is_seen(store: Store) -> None:
    await store.client.hset(KEY, "document", b"\xff")
    await store.client.pexpire(KEY, 60_000)
    await store.run(fetch_cache.write_failure(URL, "timed out", keep=30))
    assert await store.run(fetch_cache.read(URL)) == CachedFetch(None, "timed out", fresh=True)


@pytest.mark.parametrize("field", ["document", "failure"])
async def test_text_longer_than_any_of_ours_counts_as_nothing_and_goes(store: Store, field: str) -> None:
    await store.client.hset(KEY, field, b"A" * fetch_cache.LONGEST)
    assert await store.run(fetch_cache.read(URL)) is not None
    await store.client.hset(KEY, field, b"A" * (fetch_cache.LONGEST + 1))
    assert await store.run(fetch_cache.read(URL)) is None
    assert await store.client.exists(KEY) == 0

"""Addresses that are not mailed any more."""

from __future__ import annotations

from shared_store.store import Store
from shared_store.suppressions import Reason, Suppressions, remember_webhook, webhook_seen
from shared_store.testing.deployments import Deployment

KEY = "k" * 32
JANE, JOHN = "jane@example.org", "john@example.org"


async def test_address_is_in_it_until_it_is_lifted(store: Store) -> None:
    suppressions = Suppressions(KEY, life=60)
    await store.run(suppressions.add([(JANE, Reason.HARD_BOUNCE)], source="postmark", now=1.0))
    assert await store.run_all(suppressions.look(JANE), suppressions.look(JOHN)) == (True, False)
    assert await store.run(suppressions.lift(JANE))
    assert not await store.run(suppressions.look(JANE))
    assert not await store.run(suppressions.lift(JANE))


async def test_address_leaves_it_by_itself(store: Store, any_server: Deployment) -> None:
    suppressions = Suppressions(KEY, life=60)
    await store.run(suppressions.add([(JANE, Reason.COMPLAINT)], source="mailgun", now=1.0))
    [(key, server)] = any_server.keys().items()
    assert 0 < server.ask("TTL", key) <= 60


async def test_list_tells_why_and_since_when_newest_first_and_no_address(store: Store, any_server: Deployment) -> None:
    suppressions = Suppressions(KEY, life=60)
    await store.run(suppressions.add([(JANE, Reason.HARD_BOUNCE)], source="postmark", now=1.0))
    await store.run(suppressions.add([(JOHN, Reason.OPERATOR)], source="operator", now=2.0))
    listed = await suppressions.all(store)
    assert [(entry.digest, entry.reason, entry.source, entry.since) for entry in listed] == [
        (suppressions.digest(JOHN), "operator", "operator", 2.0),
        (suppressions.digest(JANE), "hard_bounce", "postmark", 1.0),
    ]
    assert all(0 < entry.seconds_left <= 60 for entry in listed)
    kept = "".join(f"{key} {server.ask('GET', key)}" for key, server in any_server.keys().items())
    assert not any(part in kept for part in ("jane", "john", "example.org"))


async def test_junk_among_them_is_listed_as_unreadable(store: Store) -> None:
    suppressions = Suppressions(KEY, life=60)
    await store.client.set("suppressed:{x}", b"\xff[", ex=60)
    await store.client.rpush("suppressed:{y}", "of another type")
    listed = await suppressions.all(store)
    assert sorted((entry.digest, entry.reason) for entry in listed) == [("x", "unreadable"), ("y", "unreadable")]


async def test_another_key_knows_nothing_of_it_and_none_asks_nothing(store: Store) -> None:
    await store.run(Suppressions(KEY, life=60).add([(JANE, Reason.COMPLAINT)], source="mailgun", now=1.0))
    assert not await store.run(Suppressions("o" * 32, life=60).look(JANE))
    assert Suppressions("", life=60).look(JANE).commands == ()
    assert not await store.run(Suppressions("", life=60).look(JANE))


async def test_webhook_is_known_once_it_is_remembered(store: Store) -> None:
    assert not await store.run(webhook_seen("mailgun token"))
    await store.run(remember_webhook("mailgun token", seconds=60))
    assert await store.run_all(webhook_seen("mailgun token"), webhook_seen("mailgun other")) == (True, False)

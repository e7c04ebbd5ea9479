"""Rotators on real servers: races, stalled holders, lost memory, servers that say no."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from key_rotator.errors import KeysNotReadyError
from key_rotator.keeper import KeyKeeper
from key_rotator.keygen import KeyMaker
from key_rotator.metrics import Metrics
from key_rotator.policy import Policy
from key_rotator.rotator import Rotator
from shared_store.commands import Call
from shared_store.connection import ConnectionOptions
from shared_store.key_sets import KeySet, KeySets
from shared_store.keyspace import KEY_SET
from shared_store.locks import Locks
from shared_store.notices import Notices
from shared_store.sealing import Sealer
from shared_store.signing_keys import SigningAlg, SigningKey
from shared_store.store import Store
from shared_store.testing.servers import RedisServer

T = TypeVar("T")
POLICY = Policy(keys_ttl=3600, token_ttl=600)
KEY = KEY_SET.key(alg="EdDSA")


class SlowMaker(KeyMaker):
    """Makes keys when it is let."""

    def __init__(self) -> None:
        super().__init__(rsa_bits=2048)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def make(self, alg: SigningAlg) -> SigningKey:
        self.asked.set()
        await self.go_on.wait()
        return await super().make(alg)


class StallingStore(Store):
    """Stalls before it writes a key set, as a process does that the machine puts to sleep."""

    def stall(self) -> None:
        self.at_the_write, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(self, call: Call[T]) -> T:
        if hasattr(self, "go_on") and call.commands[0].script and call.commands[0].script.name == "swap_key_set":
            self.at_the_write.set()
            await self.go_on.wait()
        return await super().run(call)


def _keeper(store: Store, *, maker: KeyMaker | None = None, secrets: tuple[str, ...] = ()) -> KeyKeeper:
    return KeyKeeper(
        store=store,
        key_sets=KeySets(Sealer(secrets)),
        locks=Locks(store, Notices(store)),
        maker=maker or KeyMaker(rsa_bits=2048),
        policy=POLICY,
        actor="test",
    )


@contextlib.asynccontextmanager
async def _rotating(
    store: Store,
    *,
    maker: KeyMaker | None = None,
    secrets: tuple[str, ...] = (),
    algs: tuple[SigningAlg, ...] = ("EdDSA",),
) -> AsyncIterator[tuple[Rotator, CollectorRegistry]]:
    registry = CollectorRegistry()
    rotator = Rotator(_keeper(store, maker=maker, secrets=secrets), algs=algs, metrics=Metrics(registry))
    notices = Notices(store)
    tasks = [asyncio.create_task(notices.run()), asyncio.create_task(rotator.run(notices))]
    try:
        yield rotator, registry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _ready(rotator: Rotator) -> bool:
    try:
        rotator.check_ready()
    except KeysNotReadyError:
        return False
    return True


async def _stored(store: Store, secrets: tuple[str, ...] = ()) -> KeySet:
    key_set = (await store.run(KeySets(Sealer(secrets)).load("EdDSA"))).key_set
    assert key_set is not None
    return key_set


async def _nudge_until(store: Store, condition: Callable[[KeySet | None], bool]) -> None:
    """Tell rotators again and again that keys changed, as a single notice may be lost, until the keys are so."""
    async with asyncio.timeout(20):
        while not condition((await store.run(KeySets(Sealer()).load("EdDSA"))).key_set):
            await store.client.publish("keys-updated", KEY)
            await asyncio.sleep(0.01)


async def _end_currents_time(store: Store) -> KeySet:
    """Write the set as it is when current's time is over and the next is well known."""
    key_set = await _stored(store)
    old = replace(
        key_set,
        version=key_set.version + 1,
        current=replace(key_set.current, signs_until=key_set.current.signs_from),
        next=replace(key_set.next, published_since=0.0),
    )
    await store.run(KeySets(Sealer()).replace(old, expected_version=key_set.version))
    return old


async def test_first_keys_are_made_and_ready_is_told(store: Store) -> None:
    async with _rotating(store, algs=("RS256", "EdDSA")) as (rotator, registry):
        assert not _ready(rotator)
        await _until(lambda: _ready(rotator))
        assert (await _stored(store)).previous == ()
        assert registry.get_sample_value("key_rotator_changes_total", {"alg": "RS256", "change": "create"}) == 1
        assert registry.get_sample_value("key_rotator_current_key_age_seconds", {"alg": "EdDSA"}) is not None
        due = registry.get_sample_value("key_rotator_next_rotation_timestamp_seconds", {"alg": "EdDSA"})
        assert due == (await _stored(store)).current.signs_until


async def test_ten_rotators_at_once_make_one_set_and_rotate_it_once(store: Store) -> None:
    async with contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(_rotating(store)) for _ in range(10)]
        await _until(lambda: all(_ready(rotator) for rotator, _ in running))
        before = await _end_currents_time(store)
        await _nudge_until(store, lambda now: now is not None and now.version > before.version)
        key_set = await _stored(store)
        labels = {"alg": "EdDSA", "change": "rotate"}
        made = [registry.get_sample_value("key_rotator_changes_total", labels) or 0 for _, registry in running]
    assert key_set.current.key == before.next.key
    assert await _stored(store) == key_set
    assert sum(made) == 1


async def test_write_of_a_holder_that_stalled_past_its_lock_is_refused(valkey_url: str, valkey_store: Store) -> None:
    store, keeper = valkey_store, _keeper(valkey_store)
    async with StallingStore(valkey_url) as stalled_store, _rotating(stalled_store) as (rotator, registry):
        await _until(lambda: _ready(rotator))
        stalled_store.stall()
        before = await _end_currents_time(store)
        while not stalled_store.at_the_write.is_set():
            await store.client.publish("keys-updated", KEY)
            await asyncio.sleep(0.01)
        await store.client.delete("lock:{rotate-EdDSA}")  # as if its time were over
        situation = await keeper.look("EdDSA")
        async with _rotating(store):
            async with asyncio.timeout(20):
                while situation.version == before.version:
                    situation = await keeper.look("EdDSA")
        stalled_store.go_on.set()
        await _until(lambda: bool(registry.get_sample_value("key_rotator_conflicts_total", {"alg": "EdDSA"})))
        await _until(lambda: _ready(rotator))
    assert await _stored(store) == situation.stored


async def test_key_that_comes_when_the_rotation_is_done_by_another_is_thrown_away(store: Store) -> None:
    async with _rotating(store) as (rotator, _):
        await _until(lambda: _ready(rotator))
    maker = SlowMaker()
    before = await _end_currents_time(store)
    async with _rotating(store, maker=maker) as (slow, registry):
        await asyncio.wait_for(maker.asked.wait(), 20)
        await store.client.delete("lock:{rotate-EdDSA}")
        async with _rotating(store):
            async with asyncio.timeout(20):
                while (await _stored(store)).version == before.version:
                    await asyncio.sleep(0.01)
        after = await _stored(store)
        maker.go_on.set()
        await _until(lambda: _ready(slow))
        assert not registry.get_sample_value("key_rotator_changes_total", {"alg": "EdDSA", "change": "rotate"})
    assert await _stored(store) == after


async def test_rotation_that_a_failover_forgot_comes_back(store: Store) -> None:
    async with _rotating(store) as (rotator, _):
        await _until(lambda: _ready(rotator))
        before: dict[Any, Any] = await store.client.hgetall(KEY)
        old = await _end_currents_time(store)
        await _nudge_until(store, lambda now: now is not None and now.version > old.version)
        rotated = await _stored(store)
        await store.client.hset(KEY, mapping=before)
        await _nudge_until(store, lambda now: now is not None and now.version > rotated.version)
        restored = await _stored(store)
    assert restored.current == rotated.current
    assert restored.next == rotated.next
    assert {key.key.kid for key in restored.previous} >= {key.key.kid for key in rotated.previous}


async def test_redis_that_restarts_empty_gets_its_keys_back() -> None:
    with RedisServer("valkey9") as server:
        async with Store(server.url, ConnectionOptions(timeout=1)) as store, _rotating(store) as (rotator, _):
            await _until(lambda: _ready(rotator))
            before = await _stored(store)
            server.kill()
            server.start()
            await _nudge_until(store, lambda now: now is not None)
            after = await _stored(store)
    assert (after.current, after.next) == (before.current, before.next)
    assert after.version > before.version


async def test_redis_away_is_told_and_it_goes_on_by_itself_when_it_is_back() -> None:
    server = RedisServer("valkey9")
    try:
        async with Store(server.url, ConnectionOptions(timeout=1)) as store, _rotating(store) as (rotator, registry):
            await _until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
            with pytest.raises(KeysNotReadyError, match="can't be reached"):
                rotator.check_ready()
            server.start()
            await _until(lambda: _ready(rotator))
    finally:
        server.__exit__()


async def test_server_that_refuses_is_told_with_command_and_key(valkey_url: str, valkey_store: Store) -> None:
    await valkey_store.client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~lock:*", "&*", "+@all")
    refused = valkey_url.replace("unix://", "unix://narrow:pw@")
    async with Store(refused) as store, _rotating(store) as (rotator, registry):
        await _until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
        with pytest.raises(KeysNotReadyError, match=r"ACL denies .* key"):
            rotator.check_ready()
        await valkey_store.client.execute_command("ACL", "SETUSER", "narrow", "~*")
        await _until(lambda: _ready(rotator))


async def test_junk_under_the_key_is_told_and_left_alone(store: Store) -> None:
    await store.client.hset(KEY, mapping={"version": "3", "current": b"\xff", "next": "{}", "previous": "["})
    async with _rotating(store) as (rotator, registry):
        await _until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
        with pytest.raises(KeysNotReadyError, match="can't be read: restore or import"):
            rotator.check_ready()
    assert await store.client.hget(KEY, "current") == b"\xff"


async def test_keys_are_sealed_anew_once_when_the_encryption_key_has_changed(store: Store) -> None:
    old, new = "o" * 32, "n" * 32
    async with _rotating(store) as (rotator, _):
        await _until(lambda: _ready(rotator))
    plain = await _stored(store)
    async with _rotating(store, secrets=(old,)) as (rotator, _):
        await _until(lambda: _ready(rotator))
    sealed = await _stored(store, (old,))
    assert sealed.sealed_as_configured
    assert sealed.current == plain.current
    async with (
        _rotating(store, secrets=(old, new)) as (first, one),
        _rotating(store, secrets=(new, old)) as (second, two),
    ):
        await _until(lambda: _ready(first) and _ready(second))
        await store.client.publish("keys-updated", KEY)
        after = await _stored(store, (new,))
        assert after.sealed_as_configured
        for registry in (one, two):
            assert (
                registry.get_sample_value("key_rotator_changes_total", {"alg": "EdDSA", "change": "reseal"}) or 0
            ) <= 1


async def test_keys_sealed_under_an_unknown_key_are_left_alone(store: Store) -> None:
    async with _rotating(store, secrets=("o" * 32,)) as (rotator, _):
        await _until(lambda: _ready(rotator))
    before = await store.client.hgetall(KEY)
    async with _rotating(store, secrets=("x" * 32,)) as (rotator, registry):
        await _until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
        with pytest.raises(KeysNotReadyError, match="not configured"):
            rotator.check_ready()
    assert await store.client.hgetall(KEY) == before


async def test_command_that_prints_the_same_key_each_time_is_told(valkey_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = await KeyMaker(rsa_bits=2048).make("RS256")
    path.write_text(key.private_pem)
    maker = KeyMaker(rsa_bits=2048, rsa_command=("cat", str(path)))
    async with _rotating(valkey_store, maker=maker, algs=("RS256",)) as (rotator, registry):
        await _until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "RS256"})))
        with pytest.raises(KeysNotReadyError, match="must print a new one"):
            rotator.check_ready()

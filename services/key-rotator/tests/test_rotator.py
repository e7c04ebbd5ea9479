"""Rotators on real servers: races, stalled holders, lost memory, servers that say no."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, TypeVar

import pytest

from key_rotator.errors import KeysNotReadyError
from key_rotator.keygen import KeyMaker
from shared_store.commands import Call
from shared_store.connection import ConnectionOptions
from shared_store.signing_keys import SigningAlg, SigningKey
from shared_store.store import Store
from shared_store.testing.servers import RedisServer

from .rotating import KEY, end_currents_time, make_keeper, nudge_until, ready, rotating, stored, until

T = TypeVar("T")


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


async def test_first_keys_are_made_and_ready_is_told(store: Store) -> None:
    async with rotating(store, algs=("RS256", "EdDSA")) as (rotator, registry):
        assert not ready(rotator)
        await until(lambda: ready(rotator))
        assert (await stored(store)).previous == ()
        assert registry.get_sample_value("key_rotator_changes_total", {"alg": "RS256", "change": "create"}) == 1
        assert registry.get_sample_value("key_rotator_current_key_age_seconds", {"alg": "EdDSA"}) is not None
        due = registry.get_sample_value("key_rotator_next_rotation_timestamp_seconds", {"alg": "EdDSA"})
        assert due == (await stored(store)).current.signs_until


async def test_ten_rotators_at_once_make_one_set_and_rotate_it_once(store: Store) -> None:
    async with contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(rotating(store)) for _ in range(10)]
        await until(lambda: all(ready(rotator) for rotator, _ in running))
        before = await end_currents_time(store)
        await nudge_until(store, lambda now: now is not None and now.version > before.version)
        key_set = await stored(store)
        labels = {"alg": "EdDSA", "change": "rotate"}
        made = [registry.get_sample_value("key_rotator_changes_total", labels) or 0 for _, registry in running]
    assert key_set.current.key == before.next.key
    assert await stored(store) == key_set
    assert sum(made) == 1


async def test_write_of_a_holder_that_stalled_past_its_lock_is_refused(valkey_url: str, valkey_store: Store) -> None:
    store, keeper = valkey_store, make_keeper(valkey_store)
    async with StallingStore(valkey_url) as stalled_store, rotating(stalled_store) as (rotator, registry):
        await until(lambda: ready(rotator))
        stalled_store.stall()
        before = await end_currents_time(store)
        while not stalled_store.at_the_write.is_set():
            await store.client.publish("keys-updated", KEY)
            await asyncio.sleep(0.01)
        await store.client.delete("lock:{rotate-EdDSA}")  # as if its time were over
        situation = await keeper.look("EdDSA")
        async with rotating(store):
            async with asyncio.timeout(20):
                while situation.version == before.version:
                    situation = await keeper.look("EdDSA")
        stalled_store.go_on.set()
        await until(lambda: bool(registry.get_sample_value("key_rotator_conflicts_total", {"alg": "EdDSA"})))
        await until(lambda: ready(rotator))
    assert await stored(store) == situation.stored


async def test_key_that_comes_when_the_rotation_is_done_by_another_is_thrown_away(store: Store) -> None:
    async with rotating(store) as (rotator, _):
        await until(lambda: ready(rotator))
    maker = SlowMaker()
    before = await end_currents_time(store)
    async with rotating(store, maker=maker) as (slow, registry):
        await asyncio.wait_for(maker.asked.wait(), 20)
        await store.client.delete("lock:{rotate-EdDSA}")
        async with rotating(store):
            async with asyncio.timeout(20):
                while (await stored(store)).version == before.version:
                    await asyncio.sleep(0.01)
        after = await stored(store)
        maker.go_on.set()
        await until(lambda: ready(slow))
        assert not registry.get_sample_value("key_rotator_changes_total", {"alg": "EdDSA", "change": "rotate"})
    assert await stored(store) == after


async def test_rotation_that_a_failover_forgot_comes_back(store: Store) -> None:
    async with rotating(store) as (rotator, _):
        await until(lambda: ready(rotator))
        before: dict[Any, Any] = await store.client.hgetall(KEY)
        old = await end_currents_time(store)
        await nudge_until(store, lambda now: now is not None and now.version > old.version)
        rotated = await stored(store)
        await store.client.hset(KEY, mapping=before)
        await nudge_until(store, lambda now: now is not None and now.version > rotated.version)
        restored = await stored(store)
    assert restored.current == rotated.current
    assert restored.next == rotated.next
    assert {key.key.kid for key in restored.previous} >= {key.key.kid for key in rotated.previous}


async def test_redis_that_restarts_empty_gets_its_keys_back() -> None:
    with RedisServer("valkey9") as server:
        async with Store(server.url, ConnectionOptions(timeout=1)) as store, rotating(store) as (rotator, _):
            await until(lambda: ready(rotator))
            before = await stored(store)
            server.kill()
            server.start()
            await nudge_until(store, lambda now: now is not None)
            after = await stored(store)
    assert (after.current, after.next) == (before.current, before.next)
    assert after.version > before.version


async def test_redis_away_is_told_and_it_goes_on_by_itself_when_it_is_back() -> None:
    server = RedisServer("valkey9")
    try:
        async with Store(server.url, ConnectionOptions(timeout=1)) as store, rotating(store) as (rotator, registry):
            await until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
            with pytest.raises(KeysNotReadyError, match="can't be reached"):
                rotator.check_ready()
            server.start()
            await until(lambda: ready(rotator))
    finally:
        server.__exit__()


async def test_server_that_refuses_is_told_with_command_and_key(valkey_url: str, valkey_store: Store) -> None:
    await valkey_store.client.execute_command("ACL", "SETUSER", "narrow", "on", ">pw", "~lock:*", "&*", "+@all")
    refused = valkey_url.replace("unix://", "unix://narrow:pw@")
    async with Store(refused) as store, rotating(store) as (rotator, registry):
        await until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
        with pytest.raises(KeysNotReadyError, match=r"ACL denies .* key"):
            rotator.check_ready()
        await valkey_store.client.execute_command("ACL", "SETUSER", "narrow", "~*")
        await until(lambda: ready(rotator))


async def test_keys_are_sealed_anew_once_when_the_encryption_key_has_changed(store: Store) -> None:
    old, new = "o" * 32, "n" * 32
    async with rotating(store) as (rotator, _):
        await until(lambda: ready(rotator))
    plain = await stored(store)
    async with rotating(store, secrets=(old,)) as (rotator, _):
        await until(lambda: ready(rotator))
    sealed = await stored(store, (old,))
    assert sealed.sealed_as_configured
    assert sealed.current == plain.current
    async with (
        rotating(store, secrets=(old, new)) as (first, one),
        rotating(store, secrets=(new, old)) as (second, two),
    ):
        await until(lambda: ready(first) and ready(second))
        await store.client.publish("keys-updated", KEY)
        after = await stored(store, (new,))
        assert after.sealed_as_configured
        for registry in (one, two):
            assert (
                registry.get_sample_value("key_rotator_changes_total", {"alg": "EdDSA", "change": "reseal"}) or 0
            ) <= 1


async def test_keys_sealed_under_an_unknown_key_are_left_alone(store: Store) -> None:
    async with rotating(store, secrets=("o" * 32,)) as (rotator, _):
        await until(lambda: ready(rotator))
    before = await store.client.hgetall(KEY)
    async with rotating(store, secrets=("x" * 32,)) as (rotator, registry):
        await until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "EdDSA"})))
        with pytest.raises(KeysNotReadyError, match="not configured"):
            rotator.check_ready()
    assert await store.client.hgetall(KEY) == before


async def test_command_that_prints_the_same_key_each_time_is_told(valkey_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = await KeyMaker(rsa_bits=2048).make("RS256")
    path.write_text(key.private_pem)
    maker = KeyMaker(rsa_bits=2048, rsa_command=("cat", str(path)))
    async with rotating(valkey_store, maker=maker, algs=("RS256",)) as (rotator, registry):
        await until(lambda: bool(registry.get_sample_value("key_rotator_errors_total", {"alg": "RS256"})))
        with pytest.raises(KeysNotReadyError, match="must print a new one"):
            rotator.check_ready()

"""Rotators in the test's own process, and what tests ask of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from prometheus_client import CollectorRegistry

from key_rotator.errors import KeysNotReadyError
from key_rotator.keeper import KeyKeeper
from key_rotator.keygen import KeyMaker
from key_rotator.metrics import Metrics
from key_rotator.policy import Policy
from key_rotator.rotator import Rotator
from shared_store.key_sets import KeySet, KeySets
from shared_store.keyspace import KEY_SET
from shared_store.locks import Locks
from shared_store.notices import Notices
from shared_store.sealing import Sealer
from shared_store.signing_keys import SigningAlg
from shared_store.store import Store

POLICY = Policy(keys_ttl=3600, token_ttl=600)
KEY = KEY_SET.key(alg="EdDSA")


def make_keeper(store: Store, *, maker: KeyMaker | None = None, secrets: tuple[str, ...] = ()) -> KeyKeeper:
    return KeyKeeper(
        store=store,
        key_sets=KeySets(Sealer(secrets)),
        locks=Locks(store, Notices(store)),
        maker=maker or KeyMaker(rsa_bits=2048),
        policy=POLICY,
        actor="test",
    )


@contextlib.asynccontextmanager
async def rotating(
    store: Store,
    *,
    maker: KeyMaker | None = None,
    secrets: tuple[str, ...] = (),
    algs: tuple[SigningAlg, ...] = ("EdDSA",),
) -> AsyncIterator[tuple[Rotator, CollectorRegistry]]:
    registry = CollectorRegistry()
    rotator = Rotator(make_keeper(store, maker=maker, secrets=secrets), algs=algs, metrics=Metrics(registry))
    notices = Notices(store)
    tasks = [asyncio.create_task(notices.run()), asyncio.create_task(rotator.run(notices))]
    try:
        yield rotator, registry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def ready(rotator: Rotator) -> bool:
    try:
        rotator.check_ready()
    except KeysNotReadyError:
        return False
    return True


async def stored(store: Store, secrets: tuple[str, ...] = ()) -> KeySet:
    key_set = (await store.run(KeySets(Sealer(secrets)).load("EdDSA"))).key_set
    assert key_set is not None
    return key_set


async def nudge_until(store: Store, condition: Callable[[KeySet | None], bool]) -> None:
    """Tell rotators again and again that keys changed, as a single notice may be lost, until the keys are so."""
    async with asyncio.timeout(20):
        while not condition((await store.run(KeySets(Sealer()).load("EdDSA"))).key_set):
            await store.client.publish("keys-updated", KEY)
            await asyncio.sleep(0.01)


async def end_currents_time(store: Store) -> KeySet:
    """Write the set as it is when current's time is over and the next is well known."""
    key_set = await stored(store)
    old = replace(
        key_set,
        version=key_set.version + 1,
        current=replace(key_set.current, signs_until=key_set.current.signs_from),
        next=replace(key_set.next, published_since=0.0),
    )
    await store.run(KeySets(Sealer()).replace(old, expected_version=key_set.version))
    return old

"""Carries out one step on one key set: under the lock, with new keys where needed, written by compare-and-set.

What is due is `policy`'s to say; when to look is `rotator`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from key_rotator.errors import KeyGenerationError, KeysBusyError
from key_rotator.keygen import KeyMaker
from key_rotator.policy import KEYS_NEEDED, Policy, Situation, Step, carry_out
from shared_store.commands import server_time
from shared_store.errors import CorruptRecord, KeySetConflict, StoreError
from shared_store.key_log import KeyEvent, LoggedEvent, log_event, logged
from shared_store.key_sets import KeySet, KeySets
from shared_store.locks import Lock, Locks
from shared_store.signing_keys import SigningAlg, SigningKey
from shared_store.store import Store

log = structlog.get_logger(__name__)

LOCK_TTL = 10.0  # seconds; extended while keys are made
LOCK_WAIT = 30.0  # seconds for which a command waits for a key-rotator that is at work

Decide = Callable[[Situation], Step | None]
CarryOut = Callable[[Step, Situation, Policy, Sequence[SigningKey]], KeySet]


@dataclass(frozen=True, slots=True)
class Change:
    """A change to make: which step, how it is carried out, and what goes to the log of key events beside it."""

    decide: Decide
    carry_out: CarryOut = carry_out
    remembered: KeySet | None = None
    detail: str = ""


class KeyKeeper:
    """Reads and changes key sets. `actor` is who the log of key events names."""

    def __init__(
        self, *, store: Store, key_sets: KeySets, locks: Locks, maker: KeyMaker, policy: Policy, actor: str
    ) -> None:
        self.policy = policy
        self.actor = actor
        self._store = store
        self._key_sets = key_sets
        self._locks = locks
        self._maker = maker
        # A holder that dies must not delay a rotation by more than a tenth of the period.
        self._lock_ttl = min(LOCK_TTL, max(1.0, policy.keys_ttl / 10))

    async def look(self, alg: SigningAlg, *, remembered: KeySet | None = None) -> Situation:
        """Read a key set and the time.

        Raises:
            StoreError: it can't be read.
        """
        loaded = await self._store.run(self._key_sets.load(alg))
        return Situation(alg, loaded.time, loaded.key_set, remembered)

    async def change(self, alg: SigningAlg, change: Change, *, wait: float = 0.0) -> tuple[Step, KeySet] | None:
        """Make a change under the lock, for which to wait up to `wait` seconds; None if nothing is due then.

        Raises:
            KeysBusyError: another has the lock.
            KeySetConflict, LockLost: another wrote first, or may have; nothing was written.
            KeyGenerationError: no new key could be made.
            StoreError: whatever else is wrong with the store.
        """
        lock = await self._locks.take(f"rotate-{alg}", ttl=self._lock_ttl, wait=wait)
        if lock is None:
            raise KeysBusyError(f"another key-rotator is at work on the {alg} keys; try again in a moment")
        try:
            return await self._change_under(lock, alg, change)
        finally:
            with contextlib.suppress(StoreError):  # it expires by itself
                await self._locks.release(lock)

    async def _change_under(self, lock: Lock, alg: SigningAlg, change: Change) -> tuple[Step, KeySet] | None:
        situation = await self.look(alg, remembered=change.remembered)
        step = change.decide(situation)
        if step is None:
            return None
        keys = await self._make_keys_under(alg, KEYS_NEEDED[step], lock)
        if keys:  # making them took time: what is written starts from what is there now
            situation = await self.look(alg, remembered=change.remembered)
            if change.decide(situation) is not step:
                return None
        key_set = change.carry_out(step, situation, self.policy, keys)
        await self.write(key_set, expected_version=situation.version, change=step, detail=change.detail)
        return step, key_set

    async def mend(self, alg: SigningAlg, remembered: KeySet) -> KeySet | None:
        """Write what is remembered over what can't be read; None where a newer key-rotator may have written that.

        Raises:
            KeysBusyError: another has the lock.
            StoreError: whatever is wrong with the store.
        """
        lock = await self._locks.take(f"rotate-{alg}", ttl=self._lock_ttl, wait=0.0)
        if lock is None:
            raise KeysBusyError(f"another key-rotator is at work on the {alg} keys")
        try:
            with contextlib.suppress(CorruptRecord):
                if await self._store.run(self._key_sets.version(alg)) > remembered.version:
                    return None
            with contextlib.suppress(CorruptRecord):
                await self.look(alg)
                raise KeySetConflict(f"another key-rotator has mended the {alg} keys")
            now = await self._store.run(server_time())
            key_set = carry_out(Step.RESTORE, Situation(alg, now, None, remembered), self.policy, ())
            await self.write(
                key_set, expected_version=None, change=Step.RESTORE, detail="what lay there was unreadable"
            )
            return key_set
        finally:
            with contextlib.suppress(StoreError):  # it expires by itself
                await self._locks.release(lock)

    async def write(self, key_set: KeySet, *, expected_version: int | None, change: str, detail: str = "") -> None:
        """Write a key set if Redis still has that version (0: none; None: overwrite whatever is there), and log it.

        Raises:
            KeyGenerationError: a key is in the set twice.
            KeySetConflict: another wrote first.
        """
        kids = [published.key.kid for published in key_set.published()]
        if len(set(kids)) < len(kids):
            raise KeyGenerationError(
                f"the new {key_set.alg} key is one that is there already: generate_rsa_command must print a new one "
                "each time"
            )
        event = KeyEvent(change, by=self.actor, detail=detail)
        await self._store.run(self._key_sets.replace(key_set, expected_version=expected_version, event=event))
        log.info("keys_changed", change=change, alg=key_set.alg, version=key_set.version, kid=key_set.current.key.kid)

    async def log_event(self, alg: SigningAlg, change: str, *, detail: str = "") -> None:
        """Log what was done with an algorithm's keys where they are left as they are."""
        await self._store.run(log_event(alg, KeyEvent(change, by=self.actor, detail=detail)))

    async def logged(self, alg: SigningAlg, *, most: int) -> list[LoggedEvent]:
        """Read the newest entries of the log of key events, newest first."""
        return await self._store.run(logged(alg, most=most))

    async def make_keys(self, alg: SigningAlg, count: int) -> list[SigningKey]:
        """Make new keys.

        Raises:
            KeyGenerationError: one could not be made.
        """
        return [await self._maker.make(alg) for _ in range(count)]

    async def _make_keys_under(self, alg: SigningAlg, count: int, lock: Lock) -> list[SigningKey]:
        """Make new keys and keep the lock meanwhile."""
        making = asyncio.ensure_future(self.make_keys(alg, count))
        try:
            while not making.done():
                await asyncio.wait({making}, timeout=lock.ttl / 3)
                if not making.done():
                    await self._locks.extend(lock)
            return making.result()
        finally:
            making.cancel()

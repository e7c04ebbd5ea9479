"""Locks by key and TTL. A lock guards work, not truth: what is written under one is written with a version check."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared_store.commands import Call, load_script
from shared_store.errors import LockLost
from shared_store.keyspace import LOCK, UNLOCKED_CHANNEL
from shared_store.notices import LOOK_YOURSELF, Notices
from shared_store.store import Store

POLL = 2.0  # seconds between tries where the notice of a release is lost

_LOCK = load_script("lock")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that somebody holds: its name, its owner's token, its life in seconds."""

    name: str
    token: str
    ttl: float

    @property
    def key(self) -> str:
        """The lock's Redis key."""
        return LOCK.key(name=self.name)


class Locks:
    """Takes, extends and releases locks; waiters share the process's one subscription."""

    def __init__(self, store: Store, notices: Notices) -> None:
        self._store = store
        self._notices = notices

    async def try_take(self, name: str, *, ttl: float) -> Lock | None:
        """Take a lock if nobody holds it."""
        lock = Lock(name, secrets.token_urlsafe(12), ttl)
        return lock if await self._store.run(_call(lock, "take")) else None

    async def take(self, name: str, *, ttl: float, wait: float) -> Lock | None:
        """Take a lock, waiting up to `wait` seconds; None where it is still held then."""
        ends = time.monotonic() + wait
        with self._notices.listen(UNLOCKED_CHANNEL) as released:
            while True:
                lock = await self.try_take(name, ttl=ttl)
                left = ends - time.monotonic()
                if lock is not None or left <= 0:
                    return lock
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, POLL)):
                        while await released.get() not in {LOCK.key(name=name).encode(), LOOK_YOURSELF}:
                            pass

    async def extend(self, lock: Lock) -> None:
        """Give a lock its whole life again.

        Raises:
            LockLost: it had expired, and may be another's now.
        """
        if not await self._store.run(_call(lock, "extend")):
            raise LockLost(f"the lock {lock.name} expired before it could be extended; stop what was done under it")

    async def release(self, lock: Lock) -> None:
        """Release a lock; nothing happens where it is another's by now."""
        await self._store.run(_call(lock, "release"))

    @contextlib.asynccontextmanager
    async def holding(self, name: str, *, ttl: float) -> AsyncIterator[Lock | None]:
        """Hold a lock for a block of work, or None where another holds it."""
        lock = await self.try_take(name, ttl=ttl)
        try:
            yield lock
        finally:
            if lock is not None:
                await self.release(lock)


def _call(lock: Lock, verb: str) -> Call[bool]:
    words = (verb, lock.token, int(lock.ttl * 1000), UNLOCKED_CHANNEL)
    return Call((_LOCK([lock.key], *words),), lambda replies: bool(replies[0]))

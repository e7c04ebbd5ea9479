"""Calls of many tasks in one round trip: what comes while one is under way goes with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from shared_store.commands import Call
from shared_store.errors import StoreError
from shared_store.store import Store

T = TypeVar("T")

MOST = 200  # calls in one round trip


class Batching:
    """Sends what its callers give it, many at once. `work` is its task; without it every call would wait for ever."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Call[Any], asyncio.Future[Any]]] = []
        self._some = asyncio.Event()

    async def run(self, call: Call[T]) -> T:
        """Send one call, with those of others, and wait for its value.

        Raises:
            StoreError: as `Store.run` does.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        self._some.set()
        together = await answer
        # One that can't be carried out fails its whole batch: then each learns by itself how its own fares.
        return cast(T, together) if not isinstance(together, StoreError) else await self._store.run(call)

    async def work(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._some.wait()
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            if not self._waiting:
                self._some.clear()
            values: Sequence[Any]
            try:
                values = await self._store.run_all(*(call for call, _ in batch))
            except StoreError as error:
                values = [error] * len(batch)
            for (_, answer), value in zip(batch, values, strict=True):
                if not answer.done():
                    answer.set_result(value)

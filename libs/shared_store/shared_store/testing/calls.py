"""Calls in tests of what is away for a while."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeVar

from shared_store.commands import Call
from shared_store.errors import StoreUnavailable
from shared_store.store import Store

T = TypeVar("T")


async def until_answered(store: Store, call: Call[T], *, bound: float) -> T:
    """Send a call until it has an answer, for `bound` seconds; until then it may raise nothing but StoreUnavailable."""
    async with asyncio.timeout(bound):
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await store.run(call)
            await asyncio.sleep(0.02)

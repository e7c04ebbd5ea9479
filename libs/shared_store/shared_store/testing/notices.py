"""Hearing notices in tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from shared_store.notices import LOOK_YOURSELF, Listener

BOUND = 20.0  # seconds


async def next_notice(listener: Listener) -> bytes:
    """Wait for what is said next, not for that something may have been missed."""
    async with asyncio.timeout(BOUND):
        while (notice := await listener.get()) == LOOK_YOURSELF:
            pass
        return notice


async def say_until_heard(say: Callable[[], Awaitable[object]], listener: Listener) -> bytes:
    """Say it again and again until something is heard: a subscription may still be on its way."""
    async with asyncio.timeout(BOUND):
        while True:
            await say()
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(next_notice(listener), 0.1)

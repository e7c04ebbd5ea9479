"""Whether the server is known to be away: then callers are told so at once instead of each waiting out its time-out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from shared_store.errors import StoreAway, StoreError, StoreUnreachable

PROBE_EVERY = 0.5  # seconds between looks whether it is back
PROBE_BOUND = 1.0  # seconds a look may take


class Outage:
    """Begins with a call that could not reach the server, ends with a probe that could, one each half second.

    It tells nothing of servers that answer with an error: whoever calls one of those is told at once anyway.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        self._probe = probe
        self._reason: StoreError | None = None
        self._looking: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Let a call through or not.

        Raises:
            StoreAway: the server is known to be away; nothing is to be sent.
        """
        if self._reason is not None:
            raise StoreAway(str(self._reason))

    def note(self, error: StoreError) -> None:
        """Learn of a call's failure."""
        if isinstance(error, StoreUnreachable) and not isinstance(error, StoreAway) and self._reason is None:
            self._reason = error
            self._looking = asyncio.create_task(self._look())

    async def aclose(self) -> None:
        """Look no further."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PROBE_BOUND):
                    await self._probe()
            except (StoreUnreachable, TimeoutError):
                await asyncio.sleep(PROBE_EVERY)
            except StoreError:
                break  # it answers, and whoever calls is to hear what
            else:
                break
        self._reason = None

"""Whether the server is known to be away: then callers are told so at once instead of each waiting out its time-out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from shared_store.errors import StoreAway, StoreError, StoreUnreachable

PROBE_EVERY = 0.5  # seconds between looks whether it is back
PROBE_ALONE = 1.0  # seconds after which a look that has no answer yet gets another beside it


class Outage:
    """Begins with a call that could not reach the server, ends with a probe that could, one each half second.

    It tells nothing of servers that answer with an error: whoever calls one of those is told at once anyway. Of
    `several` servers one call may have missed no more than one: there it begins with a probe that reaches none.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], *, several: bool = False) -> None:
        self._probe = probe
        self._several = several
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
        is_looking = self._looking is not None and not self._looking.done()
        if isinstance(error, StoreUnreachable) and not isinstance(error, StoreAway) and not is_looking:
            self._reason = None if self._several else error
            self._looking = asyncio.create_task(self._look(error))

    async def aclose(self) -> None:
        """Look no further."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self, error: StoreError) -> None:
        """Probe until one is answered.

        A slow one goes on beside the next: over a long way, or from a busy server, its answer may come yet, and from a
        server that went silent never.
        """
        probes: set[asyncio.Task[StoreUnreachable | None]] = set()
        try:
            while True:
                probes.add(asyncio.create_task(self._failure()))
                done, probes = await asyncio.wait(probes, timeout=PROBE_ALONE, return_when=asyncio.FIRST_COMPLETED)
                failures = [probe.result() for probe in done]
                if None in failures:
                    break
                self._reason = error = next(filter(None, failures), error)
                if done:
                    await asyncio.sleep(PROBE_EVERY)
        finally:
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
        self._reason = None

    async def _failure(self) -> StoreUnreachable | None:
        try:
            await self._probe()
        except StoreUnreachable as error:
            return error
        except StoreError:
            pass  # it answers, and whoever calls is to hear what
        return None

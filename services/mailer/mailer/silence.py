"""Waiting for a server for as long as it shows that it is there."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


def end_in(timeout: asyncio.Timeout, seconds: float | None) -> None:
    """Let a time-out end so many seconds from now; None: never. One that has ended already stays ended."""
    if not timeout.expired():
        timeout.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


class Silence:
    """Ends what is done within it, by TimeoutError, once there was no sign of life for so many seconds; None: never."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    @property
    def too_long(self) -> bool:
        """Whether it was silent for that long."""
        return self._timeout.expired()

    def heard(self) -> None:
        """There was a sign of life: count anew."""
        if self.seconds is not None:
            end_in(self._timeout, self.seconds)

    def allow(self) -> None:
        """From now on it may be silent."""
        end_in(self._timeout, None)

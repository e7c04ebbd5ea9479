"""Small work that an answer does not wait for: owned, bounded in number, and its failures are seen."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import structlog

log = structlog.get_logger(__name__)

MOST = 1000  # at once; past that the work is left out and said so


class Background(AbstractAsyncContextManager["Background"]):
    """Runs coroutines beside the requests; leaving it waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Start a piece of work; `name` says in the log which failed."""
        if len(self._tasks) >= MOST:
            work.close()
            log.warning("background_work_left_out", work=name)
            return
        task = asyncio.create_task(_run(name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))


async def _run(name: str, work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001  nobody awaits it; the log is where its failure is seen
        log.warning("background_work_failed", work=name, error=str(error))

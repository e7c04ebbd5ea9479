"""Work under way that somebody may wait for, alone or together: it goes on when nobody waits for it any more."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import structlog

from auth_api.errors import DiscoveryError
from shared_store.errors import StoreError

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST = 500  # at once; each is bounded in time by what it does


class Flights(AbstractAsyncContextManager["Flights[T]"], Generic[T]):
    """Owns the tasks; leaving it ends those that are left."""

    def __init__(self) -> None:
        self._tasks: dict[object, asyncio.Task[T]] = {}

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Give a task of one's own. Wait for it by `asyncio.shield`.

        Raises:
            DiscoveryError: too much is under way already.
        """
        return self._start(object(), work)

    def join(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Give the task of this name, started now unless it is under way. Wait for it by `asyncio.shield`.

        Raises:
            DiscoveryError: too much is under way already.
        """
        task = self._tasks.get(name)
        return self._start(name, work) if task is None else task

    def _start(self, name: object, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        if len(self._tasks) >= MOST:
            raise DiscoveryError("too many other servers are being asked at the moment")
        task = asyncio.create_task(work())
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._landed(name, done))
        return task

    def _landed(self, name: object, task: asyncio.Task[T]) -> None:
        del self._tasks[name]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, DiscoveryError | StoreError):
            log.error("discovery_failed_unexpectedly", exc_info=error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

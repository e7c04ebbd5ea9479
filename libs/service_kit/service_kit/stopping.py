"""Start and end of a process: signals become a `Stop`, work drains within a bound, the exit code tells how it went."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from service_kit import systemd
from service_kit.errors import ServiceKitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

log = structlog.stdlib.get_logger()

DRAIN = 20.0
LAST_WORDS = 3.0  # after the drain: how long cancelled work may take to clean up

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """The request to end, made once; whoever works asks `requested` or waits for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason: str | None = None

    @property
    def requested(self) -> bool:
        """Whether new work should no longer be taken."""
        return self._event.is_set()

    def request(self, reason: str) -> None:
        """Ask to end; only the first reason counts. Call it in the event loop."""
        if not self.requested:
            self.reason = reason
            self._event.set()

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - a pause that a stop cuts short
        """Wait until the end is requested, at most `timeout` seconds; tell whether it is."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


Main = Callable[[Stop], Awaitable[None]]


def run(main: Main, *, drain: float = DRAIN) -> int:
    """Run a service in an event loop of its own until it ends or a signal asks it to; its exit code.

    0 after a graceful stop, 1 when `main` failed or did not end `drain` seconds after the signal. A second signal ends
    the process at once. uvloop is used where it is installed.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run_until_stopped(main, drain=drain))


async def run_until_stopped(main: Main, *, drain: float = DRAIN) -> int:
    """As `run`, in the event loop that is there; must be called in the main thread."""
    stop = Stop()
    with _signals_to(stop, drain):
        work = asyncio.ensure_future(main(stop))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stop.requested:
                log.info("stopping", reason=stop.reason, bound=drain)
                systemd.notify("STOPPING=1")
            if not work.done():
                await asyncio.wait({work}, timeout=drain)
            return await _outcome(work, drain)
        finally:
            stopping.cancel()
            work.cancel()


async def _outcome(work: asyncio.Future[None], drain: float) -> int:
    if not work.done():
        log.error("stop_overdue", bound=drain, hint="what was still in hand is cut off")
        work.cancel()
        await asyncio.wait({work}, timeout=LAST_WORDS)
        return 1
    if work.cancelled():
        log.error("service_cancelled")
        return 1
    if (failure := work.exception()) is not None:
        if isinstance(failure, ServiceKitError):  # raised on purpose: its message says all there is to say
            log.error("service_failed", error=str(failure))
        else:
            log.error("service_failed", exc_info=failure)
        return 1
    log.info("stopped")
    return 0


@contextmanager
def _signals_to(stop: Stop, drain: float) -> Iterator[None]:
    """SIGTERM and SIGINT request the stop; the next one, or a loop too busy to end, ends the process."""
    loop = asyncio.get_running_loop()
    deadline = threading.Timer(drain + LAST_WORDS + 2, os._exit, (1,))
    deadline.daemon = True
    asked = False

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        asked = True
        deadline.start()
        loop.call_soon_threadsafe(stop.request, signal.Signals(number).name)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        deadline.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - there in containers, not needed elsewhere
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory

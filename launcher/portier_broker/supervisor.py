"""Runs children: starts them, starts them again when they die, stops them, and leaves none behind.

Each child leads a process group in a session of its own: a terminal's Ctrl-C reaches the launcher alone, and what a
child started itself goes with it.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from portier_broker.errors import LauncherError
from portier_broker.guard import LEASH, Guard
from portier_broker.relay import LineSink, Relay

log = structlog.get_logger(__name__)

_DRAIN_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. `environment` is the whole of it; `inherited` are descriptors that keep their numbers."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    inherited: tuple[int, ...] = ()
    gives_up_with: frozenset[int] = frozenset()
    """Exit codes by which it says that starting it again will not help."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Seconds: the first delay, which doubles up to `longest`, and starts anew once a child has lived `settled`."""

    first: float = 0.1
    longest: float = 5.0
    settled: float = 10.0
    grace: float = 20.0
    """How long a child may take to stop before it is killed."""

    def next_delay(self, previous: float, *, lived: float) -> float:
        """The delay before the next start of a child that lived so long; `previous` 0 for its first death."""
        if previous == 0 or lived >= self.settled:
            return self.first
        return min(previous * 2, self.longest)


class ChildGaveUpError(LauncherError):
    """A child ended in a way that starting it again cannot mend; its own output says why."""


def describe_exit(returncode: int) -> str:
    """`exit code 3` or `signal SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


class _Child:
    """One running process and its output."""

    def __init__(self, process: asyncio.subprocess.Process, relays: tuple[Relay, ...], guard: Guard) -> None:
        self.process = process
        self._relays = relays
        self._guard = guard

    async def stop(self, grace: float) -> None:
        """Pass SIGTERM on to the child, kill it after `grace` seconds, and the rest of its group in any case."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.process.wait()
        killed = self.process.returncode is None
        with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        if killed:
            log.warning("child_killed", pid=self.process.pid, after_seconds=grace)
        self._guard.forget(self.process.pid)
        for relay in self._relays:
            await relay.drained(_DRAIN_TIMEOUT)


class Supervisor:
    """Keeps children running; `pids` names those that run right now."""

    def __init__(
        self,
        *,
        guard: Guard,
        policy: RestartPolicy | None = None,
        stdout: LineSink | None = None,
        stderr: LineSink | None = None,
    ) -> None:
        self.pids: dict[str, int] = {}
        self._guard = guard
        self._policy = policy or RestartPolicy()
        self._stdout = stdout or LineSink(1)
        self._stderr = stderr or LineSink(2)

    @asynccontextmanager
    async def running(self, *specs: ChildSpec) -> AsyncIterator[None]:
        """Keep the children running while the block runs, then stop them all at once.

        Raises: an exception group with ChildGaveUpError.
        """
        async with asyncio.TaskGroup() as tasks:
            keepers = [tasks.create_task(self._keep(spec), name=spec.name) for spec in specs]
            try:
                yield
            finally:
                for keeper in keepers:
                    keeper.cancel()

    async def _keep(self, spec: ChildSpec) -> None:
        delay = 0.0
        while True:
            started = time.monotonic()
            returncode = await self._run_once(spec)
            if returncode in spec.gives_up_with:
                raise ChildGaveUpError(f"{spec.name} gave up with {describe_exit(returncode)}; see what it wrote above")
            lived = time.monotonic() - started
            delay = self._policy.next_delay(delay, lived=lived)
            log.error(
                "child_died",
                child=spec.name,
                reason=describe_exit(returncode),
                lived_seconds=round(lived, 1),
                restart_in_seconds=delay,
            )
            await asyncio.sleep(delay)

    async def _run_once(self, spec: ChildSpec) -> int:
        child = await self._start(spec)
        self.pids[spec.name] = child.process.pid
        log.debug("child_started", child=spec.name, pid=child.process.pid)
        try:
            return await child.process.wait()
        finally:
            del self.pids[spec.name]
            await child.stop(self._policy.grace)

    async def _start(self, spec: ChildSpec) -> _Child:
        stdout = Relay(self._stdout, name=spec.name)
        stderr = Relay(self._stderr, name=spec.name)
        try:
            process = await asyncio.create_subprocess_exec(
                *LEASH,
                str(self._guard.descriptor),
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout.write_end,
                stderr=stderr.write_end,
                env=dict(spec.environment),
                pass_fds=(self._guard.descriptor, *spec.inherited),
                start_new_session=True,
            )
        finally:
            stdout.close_write_end()
            stderr.close_write_end()
        return _Child(process, (stdout, stderr), self._guard)

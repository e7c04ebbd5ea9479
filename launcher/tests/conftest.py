"""What the launcher's tests share: a guard, a supervisor that writes to a file, and waiting for a condition."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from portier_broker.guard import Guard, start_guard
from portier_broker.relay import LineSink
from portier_broker.supervisor import RestartPolicy, Supervisor

BOUND = 30.0  # seconds; generous, since nothing here asserts how long something takes


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("BROKER_", "LISTEN_", "REDIS", "NOTIFY_SOCKET", "PORT", "HEROKU_", "SENDGRID_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    async with start_guard() as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    file = tmp_path / "output"
    file.touch()
    return file


@pytest.fixture
def supervisor(guard: Guard, output: Path) -> Iterator[Supervisor]:
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    sink = LineSink(descriptor)
    policy = RestartPolicy(first=0.01, longest=0.05, grace=1.0)
    yield Supervisor(guard=guard, policy=policy, stdout=sink, stderr=sink)
    os.close(descriptor)


async def eventually(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process runs; one that is dead and only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state not in "ZX"

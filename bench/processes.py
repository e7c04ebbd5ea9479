"""The broker's processes under load: started by the launcher, watched through /proc."""

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

READY_BOUND = 60.0  # seconds
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True)
class Running:
    """What runs: the broker's port, its Redis, the process ids, and the seconds it took to be ready."""

    port: int
    redis_url: str
    pids: Mapping[str, int]
    ready_after: float


@asynccontextmanager
async def broker(settings: str, *, redis_url: str = "") -> AsyncIterator[Running]:
    """Run `portier-broker` with these settings (TOML), by default with a throw-away store."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.json")
        environ = {
            **os.environ,
            "BROKER_LISTEN_PORT": str(port),
            "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}",
            **({"BROKER_REDIS_URL": redis_url} if redis_url else {"BROKER_MEMORY_STORAGE": "true"}),
            "BROKER_LOG_LEVEL": "warning",
        }
        config = Path(folder, "broker.toml")
        config.write_text(settings)
        command = (sys.executable, "-m", "portier_broker", str(config), "--ready-file", str(ready))
        began = asyncio.get_running_loop().time()
        process = await asyncio.create_subprocess_exec(*command, env=environ)
        try:
            async with asyncio.timeout(READY_BOUND):
                while not ready.exists():
                    if process.returncode is not None:
                        raise RuntimeError(f"portier-broker ended with {process.returncode}")
                    await asyncio.sleep(0.02)
            took = asyncio.get_running_loop().time() - began
            told = json.loads(ready.read_text())
            redis_url = _environment(told["pids"]["auth-api"])["BROKER_REDIS_URL"]
            yield Running(port, redis_url, told["pids"], took)
        finally:
            process.terminate()
            await process.wait()


def cpu_seconds(pid: int) -> float:
    """Give the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int) -> float:
    """Give the memory that a process holds, in megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MB


def _environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

"""The launcher's end of the guard, which ends the children should the launcher be killed without a chance to."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

# -I and -S: neither the environment nor site-packages matter to these two programs, and they start in a few ms.
PYTHON = (sys.executable, "-I", "-S")
_HERE = Path(__file__).parent
LEASH = (*PYTHON, str(_HERE / "leash.py"))
_GUARD = (*PYTHON, str(_HERE / "guard_process.py"))
_CLOSE_TIMEOUT = 5.0


class Guard:
    """The open end of the guard's pipe: `descriptor` is what a child inherits to name itself."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self.descriptor = descriptor
        self.pid = pid

    def forget(self, group: int) -> None:
        """Say that the process group is gone, so that a later owner of its number is left alone."""
        self._write(f"-{group}\n")

    def remove_at_death(self, directory: Path) -> None:
        """Have a throw-away directory removed should the launcher be killed."""
        self._write(f"{directory.absolute()}\n")

    def _write(self, line: str) -> None:
        try:
            os.write(self.descriptor, line.encode())
        except BrokenPipeError:
            log.warning("guard_is_gone", consequence="children may outlive a killed launcher", pid=self.pid)


@asynccontextmanager
async def start_guard() -> AsyncIterator[Guard]:
    """Run the guard while the block runs. In a session of its own, so that Ctrl-C passes it by."""
    read_end, write_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *_GUARD,
            stdin=read_end,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    try:
        yield Guard(write_end, process.pid)
    finally:
        os.close(write_end)
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await process.wait()

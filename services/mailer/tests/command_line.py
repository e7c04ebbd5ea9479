"""`mailer …` as an operator runs it."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys


class Mailer:
    """Runs `mailer …`."""

    def __init__(self, url: str, smtp_port: int = 1) -> None:
        given = {"REDIS_URL": url, "FROM_ADDRESS": "login@broker.example", "SMTP_SERVER": f"127.0.0.1:{smtp_port}"}
        self._environment = {**os.environ, **{f"BROKER_{name}": value for name, value in given.items()}}

    def set(self, **settings: str) -> None:
        """Set more of the configuration."""
        self._environment |= {f"BROKER_{name.upper()}": value for name, value in settings.items()}

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mailer", *arguments],
            env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def at_a_terminal(self, *arguments: str) -> str:
        """The same with a terminal on the other end; gives what appears there."""
        ours, its = pty.openpty()
        command = [sys.executable, "-P", "-m", "mailer", *arguments]
        done = subprocess.run(
            command, env=self._environment, stdin=its, stdout=its, stderr=subprocess.PIPE, timeout=60, check=False
        )
        os.close(its)
        assert done.returncode == 0, done.stderr
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123  a file descriptor
            return terminal.read(65_536).decode()


async def run(mailer: Mailer, *arguments: str) -> tuple[int, str]:
    """Run it in a thread, so that servers in this process go on."""
    return await asyncio.to_thread(mailer, *arguments)

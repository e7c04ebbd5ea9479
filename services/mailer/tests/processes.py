"""The real mailer as a process, and the queue from the other side: what tests of whole mailers need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

from shared_store.commands import Call, command
from shared_store.keyspace import MAIL_JOBS
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import Depth, MailQueue
from shared_store.store import Store

BOUND = 60.0
FROM = "login@broker.example"


def job(to: str, **changes: object) -> MailJob:
    """A job as auth-api writes it."""
    now = time.time()
    values: dict[str, object] = {
        "id": new_job_id(), "to": to, "locale": "en", "site": "https://shop.example",
        "link": "https://login.example/confirm?session=s&code=abcdef134567", "code": "abcdef134567",
        "deadline": now + 300, "expires_in": 900, "requested_at": now,
    }  # fmt: skip
    return MailJob(**{**values, **changes})  # type: ignore[arg-type]


async def enqueue(store: Store, *jobs: MailJob, tag: str = "mail") -> None:
    """Hand jobs over, some hundreds in one round trip."""
    calls = [MailQueue(tag).enqueue(one, bound=1_000_000) for one in jobs]
    for start in range(0, len(calls), 500):
        await store.run_all(*calls[start : start + 500])


async def until(condition: Callable[[], Awaitable[bool] | bool], *, bound: float = BOUND, what: str = "") -> None:
    """Wait for a condition, within a bound."""
    ends = time.monotonic() + bound
    while True:
        answer = condition()
        if answer if isinstance(answer, bool) else await answer:
            return
        if time.monotonic() > ends:
            raise AssertionError(f"not within {bound} s: {what}")
        await asyncio.sleep(0.02)


async def depth(store: Store, tag: str = "mail") -> Depth:
    """How much waits."""
    return await MailQueue(tag).depth(store)


async def is_done(store: Store, tag: str = "mail") -> bool:
    """Whether nothing waits and nothing is in hand."""
    # A job moves between the looks at its possible places, but is among the jobs until its end.
    if await store.run(Call((command("HLEN", MAIL_JOBS.key(tag=tag)),), lambda replies: bool(replies[0]))):
        return False
    now = await depth(store, tag)
    return not (now.ready or now.delayed or sum(now.taken.values()))


class MailerProcess:
    """`python -m mailer run` as operators run it; its log lies in `log`."""

    program: tuple[str, ...] = ("-m", "mailer")

    def __init__(self, url: str, port: int, **settings: object) -> None:
        self.log = Path(tempfile.mkdtemp(prefix="mailer-")) / "log"
        given = {
            "redis_url": url, "from_address": FROM, "smtp_server": f"127.0.0.1:{port}", "redis_timeout": 2,
            "log_format": "json", "internal_port": 0, **settings,
        }  # fmt: skip
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BROKER_")},
            **{f"BROKER_{name.upper()}": str(value) for name, value in given.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)

    def start(self) -> None:
        """Start it; it is registered a moment later."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *self.program, "run"], env=self._environment, stderr=log, stdout=log
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def cpu_seconds(self) -> float:
        """What the running process has used of the processor."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def until_registered(self) -> None:
        """Wait until it takes jobs."""
        await until(lambda: b"worker_registered" in self.log.read_bytes(), what=self.log.read_text()[-2000:])


@contextlib.contextmanager
def packets_dropped(port: int = 0) -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops every further SYN."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        port = listening.getsockname()[1]
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        yield port

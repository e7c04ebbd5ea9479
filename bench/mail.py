"""One mailer against a mail server that is instant, or takes its time: `python bench/mail.py --help`."""

import argparse
import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from processes import cpu_seconds, resident_mb
from sink import start_sink

from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import MailQueue
from shared_store.store import Store
from shared_store.testing.servers import RedisServer

QUEUE = MailQueue()
AT_ONCE = 500  # jobs handed over in one round trip
BOUND = 120.0  # seconds that a whole measurement may take
LOCALES = ("en", "de", "fr", "nl", "fr-CA")
MAILER, OTHERS = {0}, {1}  # the core of the mailer, and that of everything else


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement gave: mails a second, and CPU milliseconds a mail by process."""

    rate: float
    cpu: dict[str, float]
    most_mb: float


async def measure(*, jobs: int, delay: float, concurrency: int, same_core: bool) -> Figures:
    """Let a mailer send that many waiting mails."""
    others = MAILER if same_core else OTHERS
    with RedisServer("valkey9") as server, sink_process(delay) as sink:
        pin(server.pid, others)
        pin(sink.pid, others)
        async with Store(server.url) as store:
            await fill(store, jobs)
            with mailer_process(server.url, sink.port, concurrency) as mailer:
                pin(mailer.pid, MAILER)
                return await watch(store, server, sink, mailer.pid, jobs)


async def fill(store: Store, jobs: int) -> None:
    """Queue mails to different addresses, for different sites, in all languages."""
    now = time.time()
    for start in range(0, jobs, AT_ONCE):
        calls = (QUEUE.enqueue(_job(number, now), bound=jobs) for number in range(start, min(jobs, start + AT_ONCE)))
        await store.run_all(*calls)


def _job(number: int, now: float) -> MailJob:
    session = f"{number:043}"
    return MailJob(
        id=new_job_id(session),
        to=f"person-{number}@bench.example",
        locale=LOCALES[number % len(LOCALES)],
        site=f"https://site-{number % 50}.example",
        link=f"https://login.example/confirm?session={session}&code=abcdef234567",
        code="abcdef234567",
        deadline=now + 2 * BOUND,
        expires_in=900,
        requested_at=now,
        login=f"{number:010x}",
    )


async def watch(store: Store, server: RedisServer, sink: "Sink", mailer: int, jobs: int) -> Figures:
    """Wait until the mailer is at work, then until all is sent; figures are those of the time between."""
    pids = {"mailer": mailer, "sink": sink.pid, "redis": server.pid}
    warm = jobs // 10
    most_mb = 0.0
    async with asyncio.timeout(BOUND):
        while (sent_before := sink.count()) < warm:
            await asyncio.sleep(0.01)
        began, before = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
        while (sent := sink.count()) < jobs:
            most_mb = max(most_mb, resident_mb(mailer))
            await asyncio.sleep(0.02)
        took, sent = time.monotonic() - began, sent - sent_before
        used = {name: (cpu_seconds(pid) - before[name]) / sent * 1000 for name, pid in pids.items()}
        while sum((await QUEUE.depth(store)).taken.values()):
            await asyncio.sleep(0.02)
    return Figures(sent / took, used, most_mb)


# --- the processes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sink:
    """The mail server in a process of its own."""

    pid: int
    port: int
    counter: Any

    def count(self) -> int:
        """How many mails it has taken."""
        return int(self.counter.value)


@contextmanager
def sink_process(delay: float) -> Iterator[Sink]:
    """Run the sink beside us."""
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0, lock=False)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_sink, args=(theirs, counter, delay), daemon=True)
    process.start()
    try:
        yield Sink(process.pid or 0, ours.recv(), counter)
    finally:
        process.terminate()
        process.join()


def _serve_sink(pipe: "Connection[int, None]", counter: Any, delay: float) -> None:
    def count(_recipient: str, _mail: bytes) -> None:
        counter.value += 1

    async def serve() -> None:
        server = await start_sink(count, delay)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    import uvloop  # noqa: PLC0415 - the sink should cost as little as it can

    uvloop.run(serve())


@contextmanager
def mailer_process(url: str, port: int, concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a mailer as operators do, its log to nowhere."""
    settings = {
        "redis_url": url, "smtp_server": f"127.0.0.1:{port}", "smtp_security": "off", "log_format": "json",
        "from_address": "login@bench.example", "mail_concurrency": concurrency, "internal_port": 0,
    }  # fmt: skip
    environ = {**os.environ, **{f"BROKER_{name.upper()}": str(value) for name, value in settings.items()}}
    process = subprocess.Popen([sys.executable, "-m", "mailer", "run"], env=environ, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process, with its threads, on these cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


# --- the command line ----------------------------------------------------------------------------------------------


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="One mailer against a mail server, everything else on another core.")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=20)
    arguments = parser.parse_args(words)
    for delay, jobs, same_core in ((0.05, arguments.jobs // 4, False), (0.0, arguments.jobs, False),
                                   (0.0, arguments.jobs, True)):  # fmt: skip
        figures = asyncio.run(measure(jobs=jobs, delay=delay, concurrency=arguments.concurrency, same_core=same_core))
        where = "all on one core" if same_core else "the mailer has a core of its own"
        print(f"\nmail server takes {delay * 1000:.0f} ms, {jobs} jobs, concurrency {arguments.concurrency}, {where}")
        print(f"  mails/s      {figures.rate:8.0f}")
        for name, milliseconds in figures.cpu.items():
            print(f"  CPU a mail   {milliseconds:8.3f} ms {name}")
        print(f"  memory       {figures.most_mb:8.0f} MB mailer at most")


if __name__ == "__main__":
    main()

"""Logins that arrive at a rate of their own, whatever the broker does meanwhile: how long until the mail is taken.

Each counts from the moment at which it was due, so that a wait hides nothing that came during it.
"""

import asyncio
import os
import random
import time
from dataclasses import dataclass, field

from http_client import Connection
from load import SETTINGS, Load, RefusedError, percentiles
from processes import broker
from sink import start_sink

BOUND = 0.150  # seconds in which 99 of 100 mails are to be taken, besides the mail server's own time


@dataclass
class Arrivals:
    """What came of logins that arrived: seconds until their mail was taken, and until they were through."""

    load: Load
    accepted: list[float] = field(default_factory=list)
    completed: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    latest_start: float = 0.0  # by how much this driver was late at most
    _idle: list[Connection] = field(default_factory=list)

    async def come(self, *, rate: float, seconds: float) -> None:
        """Let logins arrive, `rate` a second on average and independent of each other (Poisson)."""
        due = time.monotonic()
        ends = due + seconds
        async with asyncio.TaskGroup() as group:
            number = 0
            while (due := due + random.expovariate(rate)) < ends:
                await asyncio.sleep(due - time.monotonic())
                number += 1
                group.create_task(self._one(f"comes-{due:.3f}-{number}@bench.example", due))

    async def _one(self, address: str, due: float) -> None:
        connection = self._idle.pop() if self._idle else await Connection.open("127.0.0.1", self.load.port)
        self.latest_start = max(self.latest_start, time.monotonic() - due)
        try:
            mail = await self.load.begin(connection, address)
            self.accepted.append(mail.accepted - due)
            await self.load.confirm(connection, mail)
            self.completed.append(time.monotonic() - due)
        except RefusedError as error:
            self.failures.append(str(error))
        self._idle.append(connection)


async def measure_arrivals(*, rate: float, seconds: float, smtp_delay: float) -> None:
    """Let logins arrive for that long, and print how long their mails took."""
    load = Load(0)
    sink = await start_sink(load.delivered, smtp_delay)
    host, smtp_port = sink.sockets[0].getsockname()
    async with sink, broker(SETTINGS.format(smtp_server=f"{host}:{smtp_port}")) as running:
        load.port = running.port
        await Arrivals(load).come(rate=rate, seconds=2.0)  # warm up: pools, scripts, caches
        arrivals = Arrivals(load)
        busy_before = os.getloadavg()[0]
        await arrivals.come(rate=rate, seconds=seconds)
        report(arrivals, smtp_delay=smtp_delay, seconds=seconds)
        print(f"  load average          {busy_before:8.1f} before, {os.getloadavg()[0]:.1f} after")


def report(arrivals: Arrivals, *, smtp_delay: float, seconds: float) -> None:
    """Print the figures, in milliseconds, the mail server's own time taken off."""
    came = len(arrivals.accepted) + len(arrivals.failures)
    print(f"\n{came / seconds:.0f} logins a second arrive for {seconds:.0f} s", end=", ")
    print(f"mail server takes {smtp_delay * 1000:.0f} ms")
    if not arrivals.accepted:
        print(f"  no mail came: {set(arrivals.failures)}")
        return
    own = [taken - smtp_delay for taken in arrivals.accepted]
    p99 = percentiles(own)[2]
    print(f"  /auth to mail taken   {_figures(own)}, less the server's own")
    print(f"  /auth to ID token     {_figures(arrivals.completed)}, all of it")
    print(f"  to the end            {len(arrivals.completed):8} of {came}   {set(arrivals.failures) or ''}")
    print(f"  this driver was late  {arrivals.latest_start * 1000:8.0f} ms at most, which counts, too")
    print(f"  p99 within {BOUND * 1000:.0f} ms?    {'     yes' if p99 < BOUND else '      NO'}")


def _figures(seconds: list[float]) -> str:
    p50, p95, p99 = (1000 * figure for figure in percentiles(seconds))
    return f"{p50:8.1f} / {p95:.1f} / {p99:.1f} / {1000 * max(seconds):.1f} ms (p50/p95/p99/max)"

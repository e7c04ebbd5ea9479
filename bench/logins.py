"""Whole logins against running services: `python bench/logins.py --help`."""

import argparse
import asyncio
import quopri
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from http_client import Connection
from processes import Running, broker, cpu_seconds, resident_mb
from sink import start_sink

from shared_store.store import Store

SITE = "https://site.example"
CODE = re.compile(rb"/confirm\?session=([A-Za-z0-9_-]{43})&code=([a-z0-9]{12})")
# Default limits, but for a number that one network may reach; no discovery, since it would leave this machine.
SETTINGS = """
smtp_server = "{smtp_server}"
smtp_security = "off"
from_address = "login@bench.example"
mail_concurrency = 100
limits = ["ip:100000/s", "ip:extend_window:100000/5s", "ip:email:30/h", "ip:email:decr_complete:5/15m",
          "ip:email:origin:decr_complete:2/15m"]
[domain_overrides]
"bench.example" = []
"""
MAIL_BOUND = 30.0  # seconds a client waits for its mail


class RefusedError(Exception):
    """A login did not go as it should."""


@dataclass
class Load:
    """Many clients, the mails that they wait for, and how long each login took."""

    port: int
    waiting: dict[str, "asyncio.Future[tuple[str, str]]"] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stop_at: float = 0.0

    def delivered(self, recipient: str, mail: bytes) -> None:
        """Give a mail's session and code to the client that waits for it."""
        found = CODE.search(mail) or CODE.search(quopri.decodestring(mail))
        waiting = self.waiting.get(recipient)
        if found and waiting is not None and not waiting.done():
            waiting.set_result((found[1].decode(), found[2].decode()))

    async def client(self, number: int) -> None:
        """Log in again and again on one connection."""
        connection = await Connection.open("127.0.0.1", self.port)
        count = 0
        while time.monotonic() < self.stop_at:
            count += 1
            address = f"person-{number}-{count}@bench.example"
            began = time.monotonic()
            problem = await self.login(connection, address)
            if problem:
                self.failures.append(problem)
            else:
                self.seconds.append(time.monotonic() - began)
        connection.close()

    async def login(self, connection: Connection, address: str) -> str | None:
        """Log in once; gives what went wrong, or None."""
        try:
            session, code = await self.begin(connection, address)
        except RefusedError as error:
            return str(error)
        status, head, _ = await connection.post("/confirm", f"session={session}&code={code}&device_ok=1")
        return None if status == 303 and b"id_token=" in head else f"/confirm answered {status}"

    async def begin(self, connection: Connection, address: str) -> tuple[str, str]:
        """Begin a login and wait for its mail; gives its session and code.

        Raises:
            RefusedError: that went wrong.
        """
        request = {
            "client_id": SITE,
            "redirect_uri": f"{SITE}/callback",
            "response_type": "id_token",
            "response_mode": "fragment",
            "scope": "openid email",
            "nonce": "n",
            "state": "s",
            "login_hint": address,
        }
        mail: asyncio.Future[tuple[str, str]]
        mail = self.waiting[address] = asyncio.get_running_loop().create_future()
        try:
            status, _, _ = await connection.get("/auth?" + urlencode(request, quote_via=quote))
            if status != 200:
                raise RefusedError(f"/auth answered {status}")
            async with asyncio.timeout(MAIL_BOUND):
                return await mail
        except TimeoutError:
            raise RefusedError("no mail came") from None
        finally:
            del self.waiting[address]


async def measure(*, clients: int, seconds: float, smtp_delay: float) -> None:
    """Run the load once and print what came out."""
    load = Load(0)
    sink = await start_sink(load.delivered, smtp_delay)
    host, smtp_port = sink.sockets[0].getsockname()
    settings = SETTINGS.format(smtp_server=f"{host}:{smtp_port}")
    async with sink, broker(settings) as running, Store(running.redis_url) as store:
        load.port = running.port
        await run(load, clients=clients, seconds=1.0)  # warm up: pools, scripts, caches
        load.seconds.clear()
        cpu = {name: cpu_seconds(pid) for name, pid in running.pids.items()}
        commands = await _commands(store)
        took = await run(load, clients=clients, seconds=seconds)
        commands = await _commands(store) - commands
        used = {name: cpu_seconds(pid) - cpu[name] for name, pid in running.pids.items()}
        report(load, running, used, commands=commands, took=took, smtp_delay=smtp_delay, clients=clients)


async def run(load: Load, *, clients: int, seconds: float) -> float:
    """Let the clients work for that long; gives how long it really was."""
    began = time.monotonic()
    load.stop_at = began + seconds
    await asyncio.gather(*(load.client(number) for number in range(clients)))
    return time.monotonic() - began


def report(
    load: Load,
    running: Running,
    used: dict[str, float],
    *,
    commands: int,
    took: float,
    smtp_delay: float,
    clients: int,
) -> None:
    """Print the figures."""
    count = len(load.seconds)
    print(f"\n{clients} clients, mail server answers after {smtp_delay * 1000:.0f} ms, {took:.1f} s")
    if not count:
        print(f"  no login succeeded: {set(load.failures)}")
        return
    p50, p95, p99 = _percentiles(load.seconds)
    services = [name for name in ("auth-api", "mailer", "key-rotator") if name in used]
    total = sum(used[name] for name in services)
    print(f"  logins/s              {count / took:8.0f}   ({len(load.failures)} failed {set(load.failures) or ''})")
    print(f"  latency p50/p95/p99   {p50 * 1000:8.0f} / {p95 * 1000:.0f} / {p99 * 1000:.0f} ms, mail included")
    print(f"  CPU a login           {total / count * 1000:8.2f} ms over the three services")
    print(f"  Redis commands        {commands / count:8.1f} a login")
    print(f"  ready after           {running.ready_after:8.1f} s")
    for name, pid in running.pids.items():
        print(f"  {name:<20}  {used[name] / count * 1000:8.2f} ms CPU a login, {resident_mb(pid):.0f} MB resident")


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [values[0]] * 99
    return cuts[49], cuts[94], cuts[98]


async def _commands(store: Store) -> int:
    stats = await store.client.info("stats")
    return int(stats["total_commands_processed"])


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description="Whole logins against running services.")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--smtp-delay", type=float, action="append", help="seconds; may be given several times")
    arguments = parser.parse_args()
    for delay in arguments.smtp_delay or [0.0, 0.05]:
        asyncio.run(measure(clients=arguments.clients, seconds=arguments.seconds, smtp_delay=delay))


if __name__ == "__main__":
    main()

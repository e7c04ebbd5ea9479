"""What logins cost Redis, and how their keys spread over a Cluster: `python bench/scaling.py --help`."""

import argparse
import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from http_client import Connection
from load import SETTINGS, Load, run
from processes import Running, broker, cpu_seconds
from redis.asyncio import Redis
from redis.crc import key_slot
from sink import start_sink

from shared_store.store import Store
from shared_store.testing.servers import BINARIES, RedisServer

SLOTS = 16384
CONCURRENT = 32
SETTLED = 10.0  # seconds in which the last results' keys have to be written
_KIND = re.compile(rb"^[a-z-]+:(?:\{[a-z0-9]+\}:[a-z]+)?")


@dataclass(frozen=True, slots=True)
class Costs:
    """Redis' own counters at one moment; the difference of two is what happened between them."""

    memory: int  # octets, as maxmemory counts them
    commands: int  # those inside scripts, too
    received: int  # octets
    sent: int
    cpu: float  # seconds

    def __sub__(self, earlier: "Costs") -> "Costs":
        """What came since."""
        return Costs(
            self.memory - earlier.memory,
            self.commands - earlier.commands,
            self.received - earlier.received,
            self.sent - earlier.sent,
            self.cpu - earlier.cpu,
        )


async def costs(store: Store) -> Costs:
    """Read the counters."""
    info = await store.client.info("everything")
    return Costs(
        memory=info["used_memory"],
        commands=info["total_commands_processed"],
        received=info["total_net_input_bytes"],
        sent=info["total_net_output_bytes"],
        cpu=info["used_cpu_user"] + info["used_cpu_sys"],
    )


async def measure(server: RedisServer, *, logins: int, seconds: float) -> None:
    """Begin logins and leave them in flight, then log in for a while, and print what either cost."""
    load = Load(0)
    sink = await start_sink(load.delivered, 0.0)
    host, smtp_port = sink.sockets[0].getsockname()
    settings = SETTINGS.format(smtp_server=f"{host}:{smtp_port}")
    async with sink, broker(settings, redis_url=server.url) as running, Store(running.redis_url) as store:
        load.port = running.port
        await run(load, clients=CONCURRENT, seconds=1.0)  # warm up: pools, scripts, caches
        await store.client.flushdb()  # the mailer says that it has lost its lease, and key-rotator writes its keys anew
        await _until(lambda: _is_registered(store))
        before = await costs(store)
        await begin_many(load, logins)
        report_memory(logins, await costs(store) - before, await key_sizes(store, logins))
        report_spread(await _names(store))
        await report_commands(load, store)
        await report_load(load, running, store, seconds=seconds)


async def begin_many(load: Load, count: int) -> None:
    """Begin so many logins, and leave them where their mail has arrived."""
    numbers = iter(range(count))

    async def client() -> None:
        connection = await Connection.open("127.0.0.1", load.port)
        for number in numbers:
            await load.begin(connection, f"person-{number:07}@bench.example")
        connection.close()

    await asyncio.gather(*(client() for _ in range(CONCURRENT)))


async def key_sizes(store: Store, logins: int) -> Mapping[bytes, tuple[float, float]]:
    """Give how many keys of each kind there are a login, and how many octets they take a login."""
    sizes: dict[bytes, list[int]] = {}
    for name in await _names(store):
        found = _KIND.match(name)
        size = await store.client.memory_usage(name)
        sizes.setdefault(found[0] if found else b"?", []).append(size or 0)
    return {kind: (len(found) / logins, sum(found) / logins) for kind, found in sorted(sizes.items())}


def report_memory(logins: int, used: Costs, kinds: Mapping[bytes, tuple[float, float]]) -> None:
    """Print what a login in flight takes."""
    print(f"\n{logins} logins in flight, each with its mail delivered: {used.memory / logins:.0f} octets a login\n")
    print("| kind of key | keys a login | octets a login |\n| --- | --- | --- |")
    for kind, (count, octets) in kinds.items():
        print(f"| `{kind.decode()}…` | {count:.2f} | {octets:.0f} |")


def report_spread(names: Sequence[bytes]) -> None:
    """Print how evenly keys lie on the masters of a Cluster; those of one mail queue lie together on purpose."""
    print(f"\n{len(names)} keys by slot:\n\n| masters | keys | fewest, of the mean | most |\n| --- | --- | --- | --- |")
    spread = {"all": names, "without the mail queue": [name for name in names if not name.startswith(b"mail:")]}
    for masters in (3, 6, 12):
        for what, chosen in spread.items():
            counts = Counter(key_slot(name) * masters // SLOTS for name in chosen)
            shares = [counts[master] / (len(chosen) / masters) for master in range(masters)]
            print(f"| {masters} | {what} | {min(shares):.0%} | {max(shares):.0%} |")


async def report_commands(load: Load, store: Store, *, logins: int = 200) -> None:
    """Print what one login sends to Redis: commands by name, without those inside scripts."""
    sent: Counter[str] = Counter()
    connection = await Connection.open("127.0.0.1", load.port)
    assert isinstance(store.client, Redis)
    async with store.client.monitor() as monitor:
        listening = asyncio.create_task(_count(monitor.next_command, sent))
        for number in range(logins):
            await load.login(connection, f"watched-{number}@bench.example")
        listening.cancel()
    connection.close()
    print(f"\nCommands as they are sent, in {logins} logins one by one:\n\n| command | a login |\n| --- | --- |")
    for name, count in sent.most_common(12):
        print(f"| {name} | {count / logins:.2f} |")
    print(f"| all | {sum(sent.values()) / logins:.1f} |")


async def _count(next_command: Callable[[], Awaitable[Mapping[str, str]]], sent: Counter[str]) -> None:
    while True:
        told = await next_command()
        if told["client_type"] != "lua":
            sent[told["command"].split()[0].upper()] += 1


async def report_load(load: Load, running: Running, store: Store, *, seconds: float) -> None:
    """Print what whole logins cost each process, and what that makes for 1,000 a second."""
    services = ("auth-api", "mailer", "key-rotator")
    cpu = {name: cpu_seconds(running.pids[name]) for name in services}
    before, load.seconds = await costs(store), []
    took = await run(load, clients=CONCURRENT, seconds=seconds)
    used, count = await costs(store) - before, len(load.seconds)
    print(f"\n{count / took:.0f} logins a second for {took:.0f} s ({len(load.failures)} failed)\n")
    print("| | CPU a login | cores for 1,000 logins a second |\n| --- | --- | --- |")
    for name in services:
        each = (cpu_seconds(running.pids[name]) - cpu[name]) / count
        print(f"| {name} | {each * 1000:.2f} ms | {each * 1000:.1f} |")
    print(f"| Redis | {used.cpu / count * 1000:.2f} ms | {used.cpu / count * 1000:.1f} |")
    print(f"\nRedis: {used.commands / count:.0f} commands a login with those inside scripts,", end=" ")
    print(f"{used.received / count / 1000:.1f} KB in, {used.sent / count / 1000:.1f} KB out.")


async def _names(store: Store) -> list[bytes]:
    return [name async for name in store.client.scan_iter(count=1000)]


async def _is_registered(store: Store) -> bool:
    return bool(await store.client.exists("mail:{mail}:leases", "keys:{RS256}"))


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description="What logins cost Redis, and how their keys spread.")
    parser.add_argument("--logins", type=int, default=5000, help="to begin and leave in flight")
    parser.add_argument("--seconds", type=float, default=10.0, help="of whole logins")
    parser.add_argument("--server", choices=BINARIES, default="valkey9", help="to measure")
    arguments = parser.parse_args()
    with RedisServer(arguments.server) as server:
        asyncio.run(measure(server, logins=arguments.logins, seconds=arguments.seconds))


if __name__ == "__main__":
    main()

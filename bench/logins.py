"""Whole logins against running services: `python bench/logins.py --help`."""

import argparse

import uvloop
from arrivals import measure_arrivals
from load import SETTINGS, Load, percentiles, run
from processes import Running, broker, cpu_seconds, resident_mb
from sink import start_sink

from shared_store.store import Store


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
    p50, p95, p99 = percentiles(load.seconds)
    services = [name for name in ("auth-api", "mailer", "key-rotator") if name in used]
    total = sum(used[name] for name in services)
    print(f"  logins/s              {count / took:8.0f}   ({len(load.failures)} failed {set(load.failures) or ''})")
    print(f"  latency p50/p95/p99   {p50 * 1000:8.0f} / {p95 * 1000:.0f} / {p99 * 1000:.0f} ms, mail included")
    print(f"  CPU a login           {total / count * 1000:8.2f} ms over the three services")
    print(f"  Redis commands        {commands / count:8.1f} a login")
    print(f"  ready after           {running.ready_after:8.1f} s")
    for name, pid in running.pids.items():
        print(f"  {name:<20}  {used[name] / count * 1000:8.2f} ms CPU a login, {resident_mb(pid):.0f} MB resident")


async def _commands(store: Store) -> int:
    stats = await store.client.info("stats")
    return int(stats["total_commands_processed"])


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description="Whole logins against running services.")
    parser.add_argument("--clients", type=int, default=64, help="that log in one login after another; 0 for none")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which they do")
    parser.add_argument("--rate", type=float, default=100.0, help="logins a second that come of themselves; 0 for none")
    parser.add_argument("--rate-seconds", type=float, default=30.0, help="for which they do")
    parser.add_argument("--smtp-delay", type=float, action="append", help="seconds; may be given several times")
    arguments = parser.parse_args()
    for delay in arguments.smtp_delay or [0.0, 0.05]:
        if arguments.clients:
            uvloop.run(measure(clients=arguments.clients, seconds=arguments.seconds, smtp_delay=delay))
        if arguments.rate:
            uvloop.run(measure_arrivals(rate=arguments.rate, seconds=arguments.rate_seconds, smtp_delay=delay))


if __name__ == "__main__":
    main()

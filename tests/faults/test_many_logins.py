"""Ten thousand people want to log in within a minute, and the mail server is away."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from tests.faults.broker import Broker, asked
from tests.faults.mail_servers import MailServer
from tests.stack import until

from bench.http_client import Connection
from service_kit.settings.groups import DEFAULT_LIMITS

from .conftest import MakeBroker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

LOGINS = 10_000
AT_ONCE = 200  # connections, to both auth-apis
FLOOD_BOUND = 400.0  # seconds; a machine that does nothing else takes some tens
QUEUE = 1_500  # mails that may wait
CROWD = 5  # every so many, one comes from the same network
MOST_MB = 100  # that a service may grow by; Redis by 4 KB for each login


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person got; `retry_after` in seconds, 0 for none."""

    address: str
    status: int
    retry_after: int
    is_readable: bool


@pytest.mark.fault(
    row="10,000 logins in a minute",
    cause="10,000 requests at /auth, as fast as they go; limits as shipped, mail_queue_max=1500, no mail server",
    auth_api="each is answered 200, or 429 or 503 with Retry-After; memory stays bounded; logins go on after it",
    mailer="each mail of an accepted login arrives, once, when the mail server is there",
    key_rotator="-",
)
async def test_flood_of_logins_is_answered_within_bounds_and_leaves_nothing_behind(
    make_broker: MakeBroker, server: MailServer
) -> None:
    running = await asyncio.to_thread(
        make_broker, server, limits=",".join(DEFAULT_LIMITS), mail_queue_max=QUEUE, mails_per_address=10
    )
    await asyncio.to_thread(running.log_in, "before@example.org")
    server.stop()
    before, redis_before = megabytes(running, "VmRSS"), used_memory(running)
    began = time.monotonic()
    answers = await flood(running)
    took = time.monotonic() - began
    grown = {name: most - before[name] for name, most in megabytes(running, "VmHWM").items()}
    redis_grown = used_memory(running) - redis_before
    counts = Counter(answer.status for answer in answers)
    print(
        f"\n{LOGINS} in {took:.0f} s: {dict(counts)}; MB more at most: {grown}; Redis {redis_grown / 1e6:.1f} MB more"
    )
    assert counts.keys() == {200, 429, 503}
    assert all(answer.retry_after > 0 for answer in answers if answer.status != 200)
    assert all(answer.is_readable for answer in answers)
    assert counts[200] <= QUEUE + 2 * 20 * 2  # those that wait, and those in the mailers' hands
    assert max(grown.values()) < MOST_MB
    assert redis_grown < LOGINS * 4096
    server.start()
    later = (f"after{number}@example.org" for number in count())
    await asyncio.to_thread(until, lambda: running.begin(next(later)).status_code == 200, bound=120)
    await asyncio.to_thread(running.log_in, next(later))
    await asyncio.to_thread(until, lambda: not running.mails_waiting(), bound=240)
    taken = Counter(to for to, _ in server.taken)
    accepted = [answer.address for answer in answers if answer.status == 200]
    assert {taken[to] for to in accepted} == {1}
    assert running.nobody_died()
    assert all(service.is_ready() for service in running.services)


async def flood(running: Broker) -> list[Answer]:
    """Send all of them, each for a person of its own; gives the answers."""
    numbers = iter(range(LOGINS))
    answers: list[Answer] = []

    async def log_in_some(port: int) -> None:
        connection = await Connection.open("127.0.0.1", port)
        for number in numbers:
            address = f"person{number}@example.org"
            network = "203.0.113.7" if number % CROWD == 0 else f"198.18.{number // 250}.{number % 250}"
            status, head, body = await connection.get(f"/auth?{urlencode(asked(address))}", X_Forwarded_For=network)
            told = re.search(rb"(?i)\r\nretry-after: ([0-9]+)\r\n", head)
            answers.append(Answer(address, status, int(told[1]) if told else 0, b"Traceback" not in body))
        connection.close()

    async with asyncio.timeout(FLOOD_BOUND), asyncio.TaskGroup() as logins:
        for number in range(AT_ONCE):
            logins.create_task(log_in_some(urlsplit(running.urls[number % 2]).port or 0))
    return answers


def megabytes(running: Broker, field: str) -> dict[str, int]:
    """A field of /proc/<pid>/status of each service, such as its resident memory or the most of it that there was."""
    found = {}
    for service in running.services:
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith(f"{field}:")]
        found[service.log.name] = int(line.split()[1]) // 1024
    return found


def used_memory(running: Broker) -> int:
    return int(running.redis.ask("INFO", "memory")["used_memory"])

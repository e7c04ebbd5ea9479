"""Real mailer processes, stopped, paused, cut off from their Redis, one fault at a time; all at once: test_soak.py."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from shared_store.commands import Call, command
from shared_store.mail_queue import MailQueue
from shared_store.store import Store
from shared_store.testing.servers import RedisServer, free_port

from .processes import MailerProcess, depth, enqueue, is_done, job, until
from .smtp_server import SmtpServer

QUEUE = MailQueue()


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer("valkey9", port=free_port(), config={"appendonly": "yes", "appendfsync": "always"}) as server:
        yield server


async def nothing_is_left(store: Store) -> None:
    keys = await store.run(Call((command("KEYS", "mail:*"),), lambda replies: replies[0]))
    assert [key for key in keys if b":result:" not in key] == [b"mail:{mail}:gone"]


def addresses(number: int) -> list[str]:
    return [f"person{index}@example.org" for index in range(number)]


async def test_sigterm_drains_and_exits_0(valkey_url: str, valkey_store: Store, smtp: SmtpServer) -> None:
    smtp.rules.delay = 1.0
    with MailerProcess(valkey_url, smtp.port, mail_concurrency=5) as mailer:
        await mailer.until_registered()
        await enqueue(valkey_store, *map(job, addresses(20)))
        await until(lambda: sum(line == "DATA" for line in smtp.commands) >= 5)
        mailer.signal(signal.SIGTERM)
        await until(lambda: mailer.returncode is not None, bound=20)
        assert mailer.returncode == 0
        sent = len(smtp.received)
        left = await depth(valkey_store)
        assert sent >= 5
        assert (left.ready, left.taken) == (20 - sent, {})


@pytest.mark.timeout(180)
async def test_paused_mailer_loses_its_hand_to_another_and_comes_back(
    valkey_url: str, valkey_store: Store, smtp: SmtpServer
) -> None:
    """SIGSTOP past the lease: the mails in the paused hand go out once, by the other mailer."""
    hanging = {"on": True}
    smtp.rules.answer = lambda stage, _recipient: "hang" if stage == "MAIL" and hanging["on"] else None
    with (
        MailerProcess(valkey_url, smtp.port, mail_concurrency=5) as paused,
        MailerProcess(valkey_url, smtp.port, mail_concurrency=5) as other,
    ):
        await paused.until_registered()
        other.signal(signal.SIGSTOP)
        await enqueue(valkey_store, *map(job, addresses(5)))
        await until(lambda: sum(line.startswith("MAIL") for line in smtp.commands) >= 5)
        paused.signal(signal.SIGSTOP)
        hanging["on"] = False
        smtp.drop_connections()
        other.signal(signal.SIGCONT)
        await until(lambda: len(set(smtp.recipients)) == 5, bound=40)
        paused.signal(signal.SIGCONT)
        await until(lambda: b"lease_lost" in paused.log.read_bytes(), bound=20)
        await until(lambda: is_done(valkey_store))
        # It works again under its new name.
        other.kill()
        await enqueue(valkey_store, job("late@example.org"))
        await until(lambda: "late@example.org" in smtp.recipients, bound=30)
        await until(lambda: is_done(valkey_store))
    assert max(Counter(smtp.recipients).values()) == 1


@pytest.mark.timeout(180)
async def test_redis_killed_and_restarted_under_load_loses_no_mail(own_redis: RedisServer, smtp: SmtpServer) -> None:
    smtp.rules.delay = 0.05
    async with Store(own_redis.url) as store:
        with MailerProcess(own_redis.url, smtp.port, mail_concurrency=5) as mailer:
            await mailer.until_registered()
            await enqueue(store, *map(job, addresses(300)))
            for threshold in (60, 160):
                await until(lambda threshold=threshold: len(smtp.received) >= threshold)  # type: ignore[misc]
                own_redis.kill()
                await asyncio.to_thread(own_redis.start)
            await until(lambda: len(set(smtp.recipients)) == 300)
            await until(lambda: is_done(store))
            assert mailer.returncode is None
    # What was delivered while Redis was away is finished, not sent again: the mailer itself lived.
    assert max(Counter(smtp.recipients).values()) == 1


@pytest.mark.timeout(120)
async def test_full_redis_is_drained(own_redis: RedisServer, smtp: SmtpServer) -> None:
    async with Store(own_redis.url) as store:
        await enqueue(store, *map(job, addresses(200)))
        for setting in (("maxmemory-policy", "noeviction"), ("maxmemory", "1")):
            await store.run(Call((command("CONFIG", "SET", *setting),), lambda _replies: None))
        with MailerProcess(own_redis.url, smtp.port) as mailer:
            began = time.monotonic()
            await until(lambda: is_done(store), bound=60)
            await until(lambda: len(set(smtp.recipients)) == 200)
            # Longer than a lease: it is renewed on a full server, too.
            await until(lambda: time.monotonic() - began > 17)
            assert b"lease_lost" not in mailer.log.read_bytes()
            mailer.signal(signal.SIGTERM)
            await until(lambda: mailer.returncode == 0, bound=25)
    assert len(smtp.recipients) == 200


@pytest.mark.timeout(120)
async def test_mailer_without_redis_stays_up_says_so_and_begins_when_it_is_there(smtp: SmtpServer) -> None:
    port = free_port()
    with MailerProcess(f"redis://127.0.0.1:{port}", smtp.port) as mailer:
        await until(lambda: mailer.log.read_bytes().count(b"store_away") >= 2, bound=20)
        assert mailer.returncode is None
        with RedisServer("valkey9", port=port) as server:
            async with Store(server.url) as store:
                await mailer.until_registered()
                await enqueue(store, job("jane@example.org"))
                await until(lambda: is_done(store) if smtp.received else False)
                mailer.signal(signal.SIGTERM)
                await until(lambda: mailer.returncode == 0, bound=25)

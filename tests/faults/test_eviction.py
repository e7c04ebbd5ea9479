"""A flood of cached documents and logins under each maxmemory-policy, while the services work and mail waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest
from tests.faults.broker import Broker, asked, broker, is_told, open_smtp
from tests.stack import until

from shared_store import fetch_cache
from shared_store.errors import StoreFull
from shared_store.store import Store
from shared_store.testing.servers import RedisServer, free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ROOM = 4_000_000  # octets beside what Redis takes when everything runs
DOCUMENT = "x" * 4000
DOCUMENTS, LOGINS = 50, 5  # in each turn of the flood
BOUND = 90.0  # seconds of flood
FIRST = [f"first{number}@first{number}.test" for number in range(20)]
KEYS = "keys:{RS256}"


@pytest.fixture
def under(tmp_path: Path) -> Iterator[Callable[[str], Broker]]:
    """Start the services on a Redis with a policy, and let logins wait for mail until its server is there again."""
    with ExitStack() as stack:

        def started(policy: str) -> Broker:
            server = RedisServer("valkey9", port=free_port(), config={"maxmemory-policy": policy})
            running = stack.enter_context(broker(tmp_path, server=server, mail_wait=0, allowed_domains=""))
            running.smtp.stop()
            for address in FIRST:
                assert running.begin(address).status_code == 200
            used = running.redis.ask("INFO", "memory")["used_memory"]
            running.redis.ask("CONFIG", "SET", "maxmemory", used + ROOM)
            return running

        yield started


class Flood:
    """Documents, written as auth-api does, and logins from domains that discovery fails for, which is kept, too."""

    def __init__(self, running: Broker) -> None:
        self.accepted = list(FIRST)
        self.told = 0  # 503 with Retry-After
        self.refused = 0  # documents
        self._running = running
        self._numbers = count()

    def until(self, condition: Callable[[], object]) -> None:
        """Go on until something is so, and a whole turn longer: what is there then has lived through it."""
        asyncio.run(self._until(condition))

    async def _until(self, condition: Callable[[], object]) -> None:
        ends = time.monotonic() + BOUND
        async with Store(self._running.redis.url) as store, httpx.AsyncClient(timeout=30) as browser:
            while not condition():
                assert time.monotonic() < ends, f"not so within {BOUND} s of flood"
                await self._turn(store, browser)
            await self._turn(store, browser)

    async def _turn(self, store: Store, browser: httpx.AsyncClient) -> None:
        await asyncio.gather(
            *(self._document(store) for _ in range(DOCUMENTS)), *(self._login(browser) for _ in range(LOGINS))
        )

    async def _document(self, store: Store) -> None:
        url = f"https://idp{next(self._numbers)}.example/.well-known/openid-configuration"
        try:
            await store.run(fetch_cache.write(url, DOCUMENT, fresh=600, stale=600))
        except StoreFull:
            self.refused += 1

    async def _login(self, browser: httpx.AsyncClient) -> None:
        number = next(self._numbers)
        address = f"p{number}@domain{number}.test"
        answer = await browser.get(f"{self._running.urls[number % 2]}/auth", params=asked(address))
        if answer.status_code == 200:
            self.accepted.append(address)
        else:
            assert is_told(answer), answer.text
            self.told += 1


def mail_comes_again(running: Broker) -> None:
    running.smtp = open_smtp(running.mailbox, running.smtp.port)


def confirm(running: Broker, address: str) -> str:
    """Type a code; tells what came of it."""
    done = running.confirm(address, api=1)
    if done.status_code == 200:
        assert 'name="id_token"' in done.text
        return "ended"
    assert done.status_code == 400, done.text
    assert "expired" in done.text
    return "expired"


def logs_in(running: Broker) -> None:
    """Log in anew; once more where even that was just evicted."""
    numbers = count()

    def works() -> bool:
        address = f"new@new{next(numbers)}.test"
        return running.begin(address).status_code == 200 and confirm(running, address) == "ended"

    until(works)


def evicted(running: Broker) -> int:
    return int(running.redis.ask("INFO", "stats")["evicted_keys"])


@pytest.mark.fault(
    row="full (`OOM`) with `noeviction`",
    cause="maxmemory-policy noeviction, a flood of documents and logins, mail that waits for its server",
    auth_api="new logins 503 with Retry-After 30, nothing else; those in flight end while it is full",
    mailer="sends each accepted mail while it is full",
    key_rotator="a rotation is refused with the reason; the keys are the same",
)
def test_flood_that_fills_redis_refuses_new_logins_and_lets_all_others_end(under: Callable[[str], Broker]) -> None:
    running = under("noeviction")
    kids, version = running.kids(), running.redis.ask("HGET", KEYS, "version")
    flood = Flood(running)
    flood.until(lambda: flood.refused and flood.told)
    running.redis.ask("CONFIG", "SET", "maxmemory", "1")  # full for good: a counter that expires makes room for a login
    told = running.begin("late@late.test")
    assert is_told(told)
    assert told.headers["retry-after"] == "30"
    rotation = running.rotators[0].command("rotate", "--now")
    assert rotation.returncode
    assert "out of memory" in rotation.stdout + rotation.stderr
    mail_comes_again(running)
    assert [confirm(running, address) for address in flood.accepted] == ["ended"] * len(flood.accepted)
    assert running.redis.ask("INFO", "stats")["evicted_keys"] == 0
    assert (running.kids(), running.redis.ask("HGET", KEYS, "version")) == (kids, version)
    print(f"{len(flood.accepted)} logins accepted, all ended; {flood.told} told 503, {flood.refused} documents refused")
    running.redis.ask("CONFIG", "SET", "maxmemory", "0")
    running.until_ready()
    logs_in(running)
    assert running.nobody_died()


@pytest.mark.fault(
    row="eviction of sessions",
    cause="each of volatile-*: a flood of documents and logins into 4 MB, mail that waits for its server",
    auth_api="evicted logins are told as expired, the others end, new ones work; no error at all",
    mailer="each accepted mail is sent, once",
    key_rotator="the key set is there, as it was",
)
@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_flood_costs_logins_that_are_told_as_expired_and_no_mail_and_no_key(
    under: Callable[[str], Broker], policy: str
) -> None:
    running = under(policy)
    kids, keys = running.kids(), running.redis.ask("HGETALL", KEYS)
    begun = running.redis.ask("KEYS", "login:*")
    flood = Flood(running)
    flood.until(lambda: running.redis.ask("EXISTS", *begun) < len(begun))
    mail_comes_again(running)
    ends = [confirm(running, address) for address in flood.accepted]
    print(
        f"{policy}: {len(ends)} logins accepted and mailed, {ends.count('expired')} of them evicted, "
        f"{evicted(running)} keys evicted"
    )
    assert flood.told == flood.refused == 0
    assert "expired" in ends[: len(FIRST)]
    assert all(running.mailbox.count(address) == 1 for address in flood.accepted)
    assert running.redis.ask("HGETALL", KEYS) == keys
    assert running.kids(0) == running.kids(1) == kids
    logs_in(running)
    running.until_ready()
    assert running.nobody_died()


@pytest.mark.fault(
    row="eviction of sessions",
    cause="each of allkeys-*: the same flood, until the key set is evicted",
    auth_api="told at /readyz as an error of configuration; keys.json is the same; no error at all, new logins work",
    mailer="evicted mails never come, the others do",
    key_rotator="writes the same keys back from memory",
)
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_flood_that_evicts_the_keys_ends_with_the_same_keys_and_services_that_work(
    under: Callable[[str], Broker], policy: str
) -> None:
    running = under(policy)
    until(lambda: all("eviction_policy" in service.doctor().get("error", ()) for service in running.services))
    kids, keys = running.kids(), running.redis.ask("HGETALL", KEYS)
    flood = Flood(running)
    flood.until(lambda: not running.redis.ask("EXISTS", KEYS))
    jobs = running.redis.ask("HLEN", "mail:{mail}:jobs")
    mail_comes_again(running)
    until(lambda: running.redis.ask("EXISTS", KEYS), bound=60)
    assert running.redis.ask("HGET", KEYS, "current") == keys[b"current"]
    until(lambda: running.kids(0) == running.kids(1) == kids, bound=60)
    logs_in(running)
    came = sum(running.mailbox.count(address) for address in flood.accepted)
    print(
        f"{policy}: {len(flood.accepted)} logins accepted, {jobs} jobs there after the flood, {came} mailed, "
        f"{evicted(running)} keys evicted"
    )
    assert flood.told == flood.refused == 0
    running.until_ready()
    assert running.nobody_died()

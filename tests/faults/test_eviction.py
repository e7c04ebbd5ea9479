"""A flood of cached documents and logins under each maxmemory-policy: what has no TTL stays, and errors are told."""

from __future__ import annotations

import pytest

from shared_store import fetch_cache, logins
from shared_store.errors import StoreFull
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.logins import StoredLogin, new_session_id
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate
from shared_store.store import Store
from shared_store.testing.servers import RedisServer

pytestmark = pytest.mark.faults

ROOM = 8_000_000  # octets beside what an empty server takes
DOCUMENT = "x" * 20_000
KEPT = ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
NOT_PROMISED = ("allkeys-lru", "allkeys-lfu", "allkeys-random")
QUEUE = MailQueue()


def job(number: int) -> MailJob:
    return MailJob(
        f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900, login=f"l{number}"
    )


@pytest.fixture(scope="module")
def key_set() -> KeySet:
    current, following = (PublishedKey(generate("EdDSA"), 0, 0, 4e9) for _ in range(2))
    return KeySet("EdDSA", 1, current, following)


@pytest.mark.fault(
    row="eviction of sessions",
    cause="1,000 documents and logins into 8 MB, under each of the eight policies",
    auth_api="noeviction: refused as full; volatile-*: old ones go; nothing else is raised",
    mailer="noeviction, volatile-*: each accepted job is there; allkeys-*: not promised",
    key_rotator="noeviction, volatile-*: the key set is there; allkeys-*: not promised, may have to be written anew",
)
@pytest.mark.parametrize("policy", [*KEPT, *NOT_PROMISED])
async def test_flood_evicts_no_job_and_no_key_and_is_told(policy: str, key_set: KeySet) -> None:
    with RedisServer("valkey9", config={"maxmemory-policy": policy}) as server:
        async with Store(server.url) as store:
            await store.run(KeySets(Sealer()).replace(key_set, expected_version=0))
            used = server.ask("INFO", "memory")["used_memory"]
            server.ask("CONFIG", "SET", "maxmemory", used + ROOM)
            accepted, refused = 0, 0
            for number in range(1000):
                login = StoredLogin('{"client_id": "https://site.example"}', "{}")
                save = logins.save_for_code(new_session_id(), login, code="a", browser_secret="b", ttl=900)
                document = fetch_cache.write(f"https://{number}.example", DOCUMENT, fresh=600, stale=600)
                for call in (document, save):
                    try:
                        await store.run(call)
                    except StoreFull:
                        refused += 1
                if number % 10 == 0:
                    try:
                        await store.run(QUEUE.enqueue(job(number), bound=1000))
                        accepted += 1
                    except StoreFull:
                        refused += 1
            loaded = await store.run(KeySets(Sealer()).load("EdDSA"))
            depth = await QUEUE.depth(store)
            evicted = server.ask("INFO", "stats")["evicted_keys"]
            print(f"{policy}: {accepted} jobs accepted, {depth.ready} there, {refused} refused, {evicted} keys evicted")
            assert (refused > 0) == (policy == "noeviction")
            assert (evicted > 0) == (policy != "noeviction")
            if policy in KEPT:
                assert loaded.key_set == key_set
                assert depth.ready == accepted > 0

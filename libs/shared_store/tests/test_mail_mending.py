"""Something else lies where a mail queue's keys should: it goes, the jobs come back, and odd names stop nobody."""

from __future__ import annotations

import pytest

from shared_store.keyspace import KEYS
from shared_store.mail_jobs import LATEST, MailJob
from shared_store.mail_mending import Mended, mend
from shared_store.mail_queue import MailQueue
from shared_store.mail_whereabouts import count_mailers, find_job, list_jobs
from shared_store.store import Store

QUEUE = MailQueue()
STRUCTURES = [key.key(tag="mail") for key in KEYS if key.glob.startswith("mail:") and not key.glob.endswith(":*")]
HAND = "mail:{mail}:taken:w"
LOGIN = "a" * 32
ODD = b"\xff\xfe odd"


async def fill(store: Store) -> None:
    """One job ready, one delayed, one in a worker's hand, one behind that."""
    for job_id in (f"{LOGIN}-first", "delayed", "ready"):
        await enqueue(store, job_id)
    await store.run(QUEUE.register("w", lease=60))
    await store.run(QUEUE.claim("w", room=2, known=[]))
    await store.run(QUEUE.delay("w", job("delayed"), seconds=60))
    await enqueue(store, f"{LOGIN}-behind")


def job(job_id: str) -> MailJob:
    return MailJob(job_id, "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


async def enqueue(store: Store, job_id: str) -> None:
    await store.run(QUEUE.enqueue(job(job_id), bound=100))


@pytest.mark.parametrize("key", [*STRUCTURES, HAND])
async def test_structure_that_was_overwritten_is_removed_and_no_job_is_lost_by_it(store: Store, key: str) -> None:
    await fill(store)
    await store.client.delete(key)
    await store.client.set(key, b"\xff" * 5_000_000)
    assert (await mend(store, "mail")).keys == (key,)
    await store.run(QUEUE.give_back("w"))
    left = [one.id for one in await list_jobs(store, QUEUE, most=100)]
    # Of a login's two jobs either the newer has taken the older's place by now, or it is behind that one.
    assert sorted({one.partition("-")[0] for one in left}) == [LOGIN, "delayed", "ready"]
    assert len(left) == len(set(left))


async def test_sound_queue_is_left_as_it_is(store: Store) -> None:
    await fill(store)
    assert await mend(store, "mail") == Mended()
    assert await mend(store, "other") == Mended()


async def test_workers_with_odd_names_are_reaped_like_any_other(store: Store) -> None:
    await enqueue(store, "one")
    await store.client.zadd("mail:{mail}:leases", {ODD: 1})
    await store.client.execute_command("LMOVE", "mail:{mail}:ready", b"mail:{mail}:taken:" + ODD, "RIGHT", "LEFT")
    [worker] = await store.run(QUEUE.expired_workers())
    assert (await QUEUE.depth(store)).taken == {worker: 1}
    assert await store.run(QUEUE.reap(worker)) == 1
    assert await store.run(QUEUE.gone_workers()) == [worker]
    assert await count_mailers(store, QUEUE) == 0
    assert [one.id for one in await list_jobs(store, QUEUE, most=9)] == ["one"]
    assert await mend(store, "mail") == Mended()


async def test_junk_that_is_put_off_for_ever_is_listed_with_a_time_that_calendars_know(store: Store) -> None:
    await store.client.zadd("mail:{mail}:delayed", {"late": "inf", "early": "-inf"})
    assert await store.run(QUEUE.waiting(most=9)) == [("early", 0.0), ("late", LATEST)]
    await store.client.hset("mail:{mail}:jobs", "late", "x")
    found = await find_job(store, QUEUE, "late")
    assert found is not None
    assert found.due == LATEST


async def test_junk_among_the_deaths_stops_no_claim_and_no_reaping(store: Store) -> None:
    await enqueue(store, "one")
    await store.client.hset("mail:{mail}:deaths", "one", b"\xffjunk")
    await store.run(QUEUE.register("w", lease=-1))
    claim = await store.run(QUEUE.claim("w", room=1, known=[]))
    assert claim is not None
    assert [(one.id, one.deaths) for one in claim.jobs] == [("one", 0)]
    assert await store.run(QUEUE.reap("w")) == 1
    assert await store.client.hget("mail:{mail}:deaths", "one") == b"1"

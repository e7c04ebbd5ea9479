"""The mail queue, step by step, on every server."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from shared_store.commands import Call, command
from shared_store.dead_letters import DeadJob
from shared_store.errors import CorruptRecord, QueueFull
from shared_store.keyspace import (
    MAIL_DEAD,
    MAIL_DELAYED,
    MAIL_JOBS,
    MAIL_LEASES,
    MAIL_READY,
    MAIL_RESULT,
    MAIL_TAKEN,
    mail_result_channel,
)
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import Claimed, Depth, MailQueue, Outcome, parse_result
from shared_store.mail_shards import MOST_SHARDS, queue_tags, tags_with
from shared_store.mail_whereabouts import count_mailers
from shared_store.notices import Notices
from shared_store.store import Store
from shared_store.testing.notices import next_notice

QUEUE = MailQueue()
READY, DELAYED, JOBS, LEASES = (
    pattern.key(tag="mail") for pattern in (MAIL_READY, MAIL_DELAYED, MAIL_JOBS, MAIL_LEASES)
)
HAND = MAIL_TAKEN.key(tag="mail", worker="w")


def job(number: int) -> MailJob:
    return MailJob(f"job-{number}", "é@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


async def fill(store: Store, count: int) -> None:
    for number in range(count):
        await store.run(QUEUE.enqueue(job(number), bound=1000))


async def claim(store: Store, worker: str = "w", *, room: int = 20, known: tuple[str, ...] = ()) -> list[str]:
    """Register a worker, fill its hand, and give the ids it did not know of."""
    await store.run(QUEUE.register(worker, lease=60))
    claimed = await store.run(QUEUE.claim(worker, room=room, known=known))
    assert claimed is not None
    return [found.id for found in claimed.jobs]


async def read(store: Store, *words: str | int) -> object:
    return await store.run(Call((command(*words),), lambda replies: replies[0]))


async def test_enqueued_job_is_taken_claimed_and_finished(store: Store) -> None:
    await store.run(QUEUE.enqueue(job(1), bound=10))
    assert await store.run(QUEUE.show("job-1")) == job(1).to_json().encode()
    await store.run(QUEUE.register("w", lease=60))
    assert await QUEUE.wait_for_job(store, "w", block=5)
    claimed = await store.run(QUEUE.claim("w", room=20, known=[]))
    assert claimed is not None
    assert abs(claimed.time - time.time()) < 60
    [found] = claimed.jobs
    assert (found.id, found.deaths) == ("job-1", 0)
    assert found.raw is not None
    assert MailJob.from_json(found.raw) == job(1)
    assert await store.run(QUEUE.result("job-1")) is None
    assert await store.run(QUEUE.finish("w", "job-1", Outcome.DELIVERED))
    assert await store.run(QUEUE.result("job-1")) is Outcome.DELIVERED
    assert await store.run(QUEUE.show("job-1")) is None
    assert await QUEUE.depth(store) == Depth(0, 0, {"w": 0}, 0)


async def test_nothing_to_take_is_told_after_the_wait(store: Store) -> None:
    assert not await QUEUE.wait_for_job(store, "w", block=0.05)


async def test_waiting_worker_gets_a_job_that_comes_later(store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(QUEUE.wait_for_job(store, "w", block=20))
        await asyncio.sleep(0)
        await fill(store, 1)
    assert waiting.result()
    assert await read(store, "LRANGE", HAND, 0, -1) == [b"job-0"]


async def test_jobs_are_taken_in_the_order_they_came(store: Store) -> None:
    await fill(store, 3)
    taken: list[str] = []
    for _ in range(3):
        await QUEUE.wait_for_job(store, "w", block=5)
        taken += await claim(store, room=1 + len(taken), known=tuple(taken))
    assert taken == ["job-0", "job-1", "job-2"]


async def test_enqueue_of_a_known_job_changes_nothing(store: Store) -> None:
    await fill(store, 1)
    other = dataclasses.replace(job(0), code="another")
    await store.run(QUEUE.enqueue(other, bound=0))
    assert await store.run(QUEUE.show("job-0")) == job(0).to_json().encode()
    await claim(store)
    await store.run(QUEUE.enqueue(other, bound=10))
    await store.run(QUEUE.finish("w", "job-0", Outcome.DELIVERED))
    await store.run(QUEUE.enqueue(other, bound=10))
    assert (await QUEUE.depth(store)).ready == 0


async def test_queue_refuses_at_its_bound_and_counts_delayed_jobs(store: Store) -> None:
    await fill(store, 2)
    await claim(store, room=1)
    await store.run(QUEUE.delay("w", job(0), seconds=60))
    with pytest.raises(QueueFull, match="mailer"):
        await store.run(QUEUE.enqueue(job(9), bound=2))
    await store.run(QUEUE.enqueue(job(9), bound=3))


async def test_of_many_enqueuers_at_once_only_the_bound_gets_in(store: Store) -> None:
    async def put(number: int) -> bool:
        try:
            await store.run(QUEUE.enqueue(job(number), bound=7))
        except QueueFull:
            return False
        return True

    assert sum(await asyncio.gather(*(put(number) for number in range(50)))) == 7
    assert (await QUEUE.depth(store)).ready == 7


async def test_claim_fills_the_hand_to_its_room_and_gives_only_what_is_news(store: Store) -> None:
    await fill(store, 5)
    first = await claim(store, room=2)
    assert sorted(first) == ["job-0", "job-1"]
    assert sorted(await claim(store, room=2)) == sorted(first)
    assert await claim(store, room=2, known=tuple(first)) == []
    assert await claim(store, room=3, known=tuple(first)) == ["job-2"]
    assert await claim(store, room=1, known=("job-0", "job-1", "job-2")) == []


async def test_claim_without_a_lease_is_told_and_takes_nothing(store: Store) -> None:
    await fill(store, 1)
    assert await store.run(QUEUE.claim("w", room=5, known=[])) is None
    assert (await QUEUE.depth(store)).ready == 1


async def test_lease_is_renewed_while_it_is_there(store: Store) -> None:
    assert not await store.run(QUEUE.renew("w", lease=60))
    for _ in range(2):
        assert await store.run(QUEUE.register("w", lease=60))
        assert await store.run(QUEUE.renew("w", lease=60))
    assert await store.run(QUEUE.expired_workers()) == []
    await store.run(QUEUE.renew("w", lease=0))
    assert await store.run(QUEUE.expired_workers()) == ["w"]


async def test_finish_sent_again_or_by_another_worker_changes_nothing(store: Store) -> None:
    await fill(store, 1)
    await claim(store)
    assert not await store.run(QUEUE.finish("other", "job-0", Outcome.FAILED))
    assert await store.run(QUEUE.show("job-0")) is not None
    assert await store.run(QUEUE.finish("w", "job-0", Outcome.DELIVERED))
    assert not await store.run(QUEUE.finish("w", "job-0", Outcome.FAILED))
    assert await store.run(QUEUE.result("job-0")) is Outcome.DELIVERED
    result = MAIL_RESULT.key(tag="mail", job="job-0")
    assert 100 < await store.client.ttl(result) <= 120


async def test_outcome_is_told_on_the_channel_of_the_page_that_waits(store: Store) -> None:
    channel = mail_result_channel("api-1")
    await fill(store, 1)
    await claim(store)
    notices = Notices(store)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(notices.run())
        with notices.listen(channel) as listener:
            await asyncio.wait_for(notices.connected.wait(), 20)
            await store.run(QUEUE.finish("w", "job-0", Outcome.REJECTED, tell=channel))
            assert parse_result(await next_notice(listener)) == ("job-0", Outcome.REJECTED)
        task.cancel()


@pytest.mark.parametrize("message", [b"", b"job-0", b"job-0 ", b"job-0 unheard-of", b"\xff\xfe \xff"])
def test_other_messages_of_the_channel_are_left_alone(message: bytes) -> None:
    assert parse_result(message) is None


async def test_delayed_job_is_promoted_when_its_time_has_come(store: Store) -> None:
    await fill(store, 2)
    await claim(store)
    later = job(0).after_attempt("421 later")
    assert await store.run(QUEUE.delay("w", later, seconds=3600))
    assert not await store.run(QUEUE.delay("w", later, seconds=0))
    assert await store.run(QUEUE.delay("w", job(1), seconds=0))
    assert await store.run(QUEUE.promote()) == 1
    assert await store.run(QUEUE.promote()) == 0
    assert await store.run(QUEUE.show("job-0")) == later.to_json().encode()
    waiting = await store.run(QUEUE.waiting(most=10))
    assert [job_id for job_id, _ in waiting] == ["job-1", "job-0"]
    assert waiting[0][1] is None
    assert waiting[1][1] is not None
    assert abs(waiting[1][1] - time.time() - 3600) < 60


async def test_promoted_jobs_go_before_those_that_wait_the_oldest_first(store: Store) -> None:
    await fill(store, 3)
    await claim(store)
    await store.run(QUEUE.enqueue(job(9), bound=10))
    for number in (1, 0, 2):
        await store.run(QUEUE.delay("w", job(number), seconds=0))
        await read(store, "ZADD", DELAYED, number + 1, f"job-{number}")
    await store.run(QUEUE.promote())
    assert [job_id for job_id, _ in await store.run(QUEUE.waiting(most=10))] == ["job-0", "job-1", "job-2", "job-9"]


async def test_job_that_cannot_be_read_yet_is_put_off_as_it_is(store: Store) -> None:
    await fill(store, 1)
    await claim(store)
    assert await store.run(QUEUE.delay_unread("w", Claimed("job-0", b'{"v":2}\xff', 0), seconds=0))
    assert await store.run(QUEUE.show("job-0")) == b'{"v":2}\xff'


async def test_hand_of_a_dead_worker_goes_back_and_deaths_are_counted(store: Store) -> None:
    await fill(store, 3)
    for deaths in (1, 2, 3):
        await claim(store, "w", room=2)
        assert await store.run(QUEUE.reap("w")) == -1
        await store.run(QUEUE.renew("w", lease=0))
        assert await store.run(QUEUE.reap("w")) == 2
        assert await store.run(QUEUE.reap("w")) == 0
        assert await store.run(QUEUE.expired_workers()) == []
        assert [job_id for job_id, _ in await store.run(QUEUE.waiting(most=9))] == ["job-0", "job-1", "job-2"]
        claimed = await store.run(QUEUE.claim("w", room=2, known=[]))
        assert claimed is None
        await store.run(QUEUE.register("x", lease=60))
        seen = await store.run(QUEUE.claim("x", room=3, known=[]))
        assert seen is not None
        assert {found.id: found.deaths for found in seen.jobs} == {"job-0": deaths, "job-1": deaths, "job-2": 0}
        await store.run(QUEUE.give_back("x"))


async def test_worker_without_a_lease_can_be_reaped_so_that_nothing_is_left_in_its_hand(store: Store) -> None:
    await fill(store, 1)
    await QUEUE.wait_for_job(store, "w", block=5)
    assert await store.run(QUEUE.reap("w")) == 1


@pytest.mark.parametrize("end", ["give_back", "reap"])
async def test_job_moved_into_a_hand_after_its_lease_was_ended_can_be_found_and_put_back(
    store: Store, end: str
) -> None:
    await store.run(QUEUE.register("w", lease=-1))
    await store.run(QUEUE.give_back("w") if end == "give_back" else QUEUE.reap("w"))
    await fill(store, 1)
    assert await QUEUE.wait_for_job(store, "w", block=5)  # as from a process that was stopped in between
    assert await store.run(QUEUE.expired_workers()) == []
    assert await store.run(QUEUE.gone_workers()) == ["w"]
    assert await store.run(QUEUE.reap("w")) == 1
    assert [found.id for found in await full_claim(store)] == ["job-0"]


async def test_workers_gone_for_long_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.run(QUEUE.give_back("w"))
    monkeypatch.setattr("shared_store.mail_queue.GONE_KEPT", -1)
    assert await store.run(QUEUE.gone_workers()) == []


async def test_jobs_given_back_are_untried_and_in_order(store: Store) -> None:
    await fill(store, 4)
    await claim(store, room=3)
    assert await store.run(QUEUE.give_back("w")) == 3
    assert await store.run(QUEUE.give_back("w")) == 0
    assert [job_id for job_id, _ in await store.run(QUEUE.waiting(most=9))] == [f"job-{number}" for number in range(4)]
    assert await read(store, "EXISTS", LEASES) == 0
    assert sum(found.deaths for found in (await full_claim(store))) == 0


async def full_claim(store: Store) -> tuple[Claimed, ...]:
    await store.run(QUEUE.register("x", lease=60))
    claimed = await store.run(QUEUE.claim("x", room=99, known=[]))
    assert claimed is not None
    return claimed.jobs


async def test_buried_job_leaves_a_letter_without_personal_data(store: Store) -> None:
    await fill(store, 1)
    await claim(store)
    dead = DeadJob.of(job(0).after_attempt("550 no such user"), "rejected", 123.0)
    assert await store.run(QUEUE.bury("w", dead, Outcome.REJECTED))
    assert not await store.run(QUEUE.bury("w", dead, Outcome.REJECTED))
    assert await store.run(QUEUE.dead_letters()) == [dead]
    assert await store.run(QUEUE.result("job-0")) is Outcome.REJECTED
    raw = repr(await read(store, "LRANGE", MAIL_DEAD.key(tag="mail"), 0, -1))
    assert not any(personal in raw for personal in ("é@", "abc123", "https://l"))
    assert await store.run(QUEUE.purge_dead()) == 1
    assert await store.run(QUEUE.purge_dead()) == 0


async def test_dead_letters_are_bounded_and_newest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared_store.mail_queue.DEAD_KEPT", 3)
    await fill(store, 5)
    await claim(store)
    for number in range(5):
        await store.run(QUEUE.bury("w", DeadJob.of(job(number), "expired", 1.0), Outcome.FAILED))
    assert [dead.id for dead in await store.run(QUEUE.dead_letters())] == ["job-4", "job-3", "job-2"]


async def test_unreadable_dead_letter_is_told_as_such(store: Store) -> None:
    for junk in (b"\xff", b"[]", b"{}", b'{"history":[],"unknown":1}', b"[" * 50_000, b"null"):
        await store.client.lpush(MAIL_DEAD.key(tag="mail"), junk)
    assert {dead.reason for dead in await store.run(QUEUE.dead_letters())} == {"unreadable"}


def of_login(number: int, **changes: object) -> MailJob:
    return dataclasses.replace(job(number), id=f"{'c' * 32}-{number}", **changes)  # type: ignore[arg-type]


async def test_newer_mail_of_a_login_takes_the_place_in_line_of_the_older(store: Store) -> None:
    await fill(store, 1)
    await store.run(QUEUE.enqueue(of_login(1), bound=10))
    await store.run(QUEUE.enqueue(job(2), bound=10))
    await store.run(QUEUE.enqueue(of_login(2, code="newer"), bound=3))  # a full queue takes what replaces
    claimed = await full_claim(store)
    assert [found.id for found in claimed] == ["job-0", of_login(2).id, "job-2"]
    assert b'"newer"' in (claimed[1].raw or b"")
    assert await store.run(QUEUE.show(of_login(1).id)) is None


async def test_newer_mail_of_a_login_takes_the_time_of_one_that_was_put_off(store: Store) -> None:
    await store.run(QUEUE.enqueue(of_login(1), bound=10))
    await claim(store)
    await store.run(QUEUE.delay("w", of_login(1), seconds=3600))
    [(_, due)] = await store.run(QUEUE.waiting(most=9))
    await store.run(QUEUE.enqueue(of_login(2), bound=10))
    assert await store.run(QUEUE.waiting(most=9)) == [(of_login(2).id, due)]


async def test_newer_mail_of_a_login_waits_until_the_older_is_out_of_hand(store: Store) -> None:
    await store.run(QUEUE.enqueue(of_login(1), bound=10))
    await claim(store)
    for number in (2, 3):
        await store.run(QUEUE.enqueue(of_login(number), bound=10))
        assert await claim(store, known=(of_login(1).id,)) == []
    assert await store.run(QUEUE.show(of_login(2).id)) is None  # the third took its place
    assert await store.run(QUEUE.finish("w", of_login(1).id, Outcome.DELIVERED))
    assert await claim(store) == [of_login(3).id]


@pytest.mark.parametrize("end", ["delay", "give_back", "reap"])
async def test_newer_mail_of_a_login_goes_out_in_place_of_one_that_comes_back(store: Store, end: str) -> None:
    await store.run(QUEUE.enqueue(of_login(1), bound=10))
    await claim(store)
    await store.run(QUEUE.enqueue(of_login(2), bound=10))
    if end == "delay":
        await store.run(QUEUE.delay("w", of_login(1), seconds=-1))
        assert await store.run(QUEUE.promote()) == 1
    elif end == "give_back":
        await store.run(QUEUE.give_back("w"))
    else:
        await store.run(QUEUE.renew("w", lease=-1))
        await store.run(QUEUE.reap("w"))
    [found] = await full_claim(store)
    assert (found.id, found.deaths) == (of_login(2).id, 1 if end == "reap" else 0)
    assert await read(store, "HKEYS", JOBS) == [of_login(2).id.encode()]


async def test_operator_drops_a_mail_that_waits_behind_one_in_hand(store: Store) -> None:
    await store.run(QUEUE.enqueue(of_login(1), bound=10))
    await claim(store)
    await store.run(QUEUE.enqueue(of_login(2), bound=10))
    assert not await store.run(QUEUE.drop(of_login(1).id))
    assert await store.run(QUEUE.drop(of_login(2).id))
    assert await store.run(QUEUE.finish("w", of_login(1).id, Outcome.DELIVERED))
    assert await QUEUE.depth(store) == Depth(0, 0, {"w": 0}, 0)


def test_ids_of_one_login_begin_alike_and_betray_no_session() -> None:
    first, again, other = new_job_id("secret"), new_job_id("secret"), new_job_id("else")
    assert first[:33] == again[:33] != other[:33]
    assert first != again
    assert "secret" not in first
    assert all(MailJob.from_json(dataclasses.replace(job(0), id=one).to_json().encode()) for one in (first, other))


async def test_operator_brings_a_delayed_job_forward_or_drops_one_that_waits(store: Store) -> None:
    await fill(store, 3)
    assert not await store.run(QUEUE.retry_now("job-9"))
    await claim(store, room=2)
    assert not await store.run(QUEUE.retry_now("job-0"))
    await store.run(QUEUE.delay("w", job(0), seconds=3600))
    assert not await store.run(QUEUE.drop("job-1"))
    for _ in range(2):
        assert await store.run(QUEUE.retry_now("job-0"))
    assert (await QUEUE.depth(store)).ready == 2
    assert await store.run(QUEUE.drop("job-0"))
    assert not await store.run(QUEUE.drop("job-0"))
    assert await store.run(QUEUE.drop("job-2"))
    assert await QUEUE.depth(store) == Depth(0, 0, {"w": 1}, 0)
    assert await read(store, "HKEYS", JOBS) == [b"job-1"]


async def test_id_without_a_job_is_claimed_as_nothing_and_can_be_buried(store: Store) -> None:
    await store.client.lpush(READY, b"\xffjunk", b"lost")
    claimed = await full_claim(store)
    assert [found.raw for found in claimed] == [None, None]
    known = [found.id for found in claimed]
    again = await store.run(QUEUE.claim("x", room=9, known=known))
    assert again is not None
    assert again.jobs == ()
    for job_id in known:
        assert await store.run(QUEUE.bury("x", DeadJob(job_id, "malformed", 1.0), Outcome.FAILED))
    assert [dead.reason for dead in await store.run(QUEUE.dead_letters())] == ["malformed", "malformed"]
    assert await QUEUE.depth(store) == Depth(0, 0, {"x": 0}, 2)


async def test_queues_of_other_tags_are_apart(store: Store) -> None:
    assert queue_tags(1) == ["mail"]
    assert queue_tags(3) == ["mail", "mail-1", "mail-2"]
    await fill(store, 1)
    assert (await MailQueue("mail-1").depth(store)).ready == 0


async def test_queues_with_jobs_are_found_wherever_the_jobs_are(store: Store) -> None:
    tags = queue_tags(MOST_SHARDS)
    last = tags[-1]
    assert await store.run(tags_with(tags)) == []
    assert await store.run(tags_with([])) == []
    for tag in ("mail-7", last):
        await store.run(MailQueue(tag).enqueue(job(1), bound=9))
    await store.run(MailQueue(last).register("w", lease=60))
    await MailQueue(last).wait_for_job(store, "w", block=5)
    assert await store.run(tags_with(tags)) == ["mail-7", last]
    await store.run(MailQueue(last).bury("w", DeadJob.of(job(1), "expired", 1.0), Outcome.FAILED))
    assert await store.run(tags_with(tags)) == ["mail-7"]
    assert await store.run(tags_with(tags, dead=True)) == ["mail-7", last]


async def test_mailers_of_a_queue_are_those_whose_lease_goes_on(store: Store) -> None:
    assert await count_mailers(store, QUEUE) == 0
    for worker, lease in (("w", 60), ("x", 60), ("dead", -1)):
        await store.run(QUEUE.register(worker, lease=lease))
    assert await count_mailers(store, QUEUE) == 2


@pytest.mark.parametrize("key", [READY, DELAYED, JOBS, LEASES, HAND])
async def test_another_type_under_a_key_of_the_queue_is_told_as_corrupt(store: Store, key: str) -> None:
    async def go_through() -> None:
        await store.run(QUEUE.enqueue(job(0), bound=10))
        await claim(store)
        await store.run(QUEUE.delay("w", job(0), seconds=1))

    await store.client.set(key, "a string")
    with pytest.raises(CorruptRecord):
        await go_through()


async def test_junk_as_a_result_is_no_result(store: Store) -> None:
    await store.client.set(MAIL_RESULT.key(tag="mail", job="job-0"), b"\xff")
    assert await store.run(QUEUE.result("job-0")) is None

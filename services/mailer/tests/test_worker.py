"""The worker against a real store and a real SMTP server, in this process."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from mailer.composition import Service
from shared_store.commands import Call, command
from shared_store.dead_letters import DeadJob
from shared_store.keyspace import MAIL_DELAYED, MAIL_JOBS, MAIL_LEASES, MAIL_READY, mail_result_channel
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.notices import Notices
from shared_store.store import Store
from shared_store.testing.notices import next_notice

from .api_server import ApiServer, answer
from .conftest import Start
from .processes import enqueue, is_done, job, until
from .smtp_server import CLOSE, HANG, Received, Rules, SmtpServer, first, only

QUEUE = MailQueue()


def value(service: Service, name: str, **labels: str) -> float:
    return service.registry.get_sample_value(name, labels) or 0.0


async def ask(store: Store, *words: Any) -> Any:
    return await store.run(Call((command(*words),), lambda replies: replies[0]))


async def dead(store: Store) -> list[DeadJob]:
    return await store.run(QUEUE.dead_letters())


async def nothing_is_left(store: Store) -> None:
    keys = {key.decode() for key in await ask(store, "KEYS", "mail:*") if b":result:" not in key}
    assert keys <= {"mail:{mail}:dead", "mail:{mail}:gone"}


async def test_mail_is_delivered_and_the_page_told(valkey_store: Store, smtp: SmtpServer, start: Start) -> None:
    channel = mail_result_channel("api")
    notices = Notices(valkey_store)
    hearing = asyncio.create_task(notices.run())
    asked = job("jane@example.org", reply_to=channel)
    with notices.listen(channel) as heard:
        async with asyncio.timeout(10):
            await notices.connected.wait()
        async with start() as service:
            await enqueue(valkey_store, asked)
            assert await next_notice(heard) == f"{asked.id} delivered".encode()
            await until(lambda: is_done(valkey_store))
            for check in service.checks:
                await check.check()
            assert value(service, "mailer_attempts_total", transport="smtp", outcome="delivered") == 1
            assert value(service, "mailer_request_to_accepted_seconds_count") == 1
    hearing.cancel()
    assert smtp.recipients == ["jane@example.org"]
    assert await valkey_store.run(QUEUE.result(asked.id)) is Outcome.DELIVERED
    await nothing_is_left(valkey_store)


async def test_rejected_recipient_is_told_and_leaves_a_letter_without_personal_data(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    smtp.rules.answer = only("RCPT", "550 5.1.1 <jane@example.org> unknown")
    asked = job("jane@example.org")
    async with start():
        await enqueue(valkey_store, asked)
        await until(lambda: is_done(valkey_store))
    assert await valkey_store.run(QUEUE.result(asked.id)) is Outcome.REJECTED
    [letter] = await dead(valkey_store)
    assert (letter.reason, letter.history, letter.attempts) == ("rejected", ("smtp: rcpt 550 5.1.1",), 1)
    assert "jane" not in letter.to_json()
    await nothing_is_left(valkey_store)


async def test_mails_that_wait_for_a_silent_servers_answer_keep_no_other_waiting(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    smtp.rules.answer = only("content", HANG)
    async with SmtpServer() as second:
        servers = f"127.0.0.1:{smtp.port},127.0.0.1:{second.port}"
        async with start(smtp_server=servers, mail_concurrency=3) as service:
            await enqueue(valkey_store, *(job(f"person{number}@example.org") for number in range(12)))
            await until(lambda: len(second.received) == 9)
            await until(lambda: value(service, "mailer_in_hand") == 3)  # what was received is settled a moment later
            smtp.rules.answer = Rules().answer
            smtp.drop_connections()
            await until(lambda: is_done(valkey_store))
        assert sorted(smtp.recipients + second.recipients) == sorted(f"person{n}@example.org" for n in range(12))


async def test_transient_failure_is_tried_again_with_the_same_message_id(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.jobs.BACK_OFF", 0.05)
    ids: list[str] = []
    smtp.rules.answer = first("content", "451 4.3.0 later", "452 4.3.1 later")

    def taken(mail: Received) -> str | None:
        ids.append(mail.message["Message-ID"])
        return CLOSE if len(ids) == 1 else None

    smtp.rules.after = taken
    async with start() as service:
        await enqueue(valkey_store, job("jane@example.org"))
        await until(lambda: is_done(valkey_store))
        assert value(service, "mailer_retries_total") == 3
    # Two refusals, a connection closed after the mail was taken, and a delivery: the last two are the same mail.
    assert len(ids) == 2
    assert len(set(ids)) == 1
    await nothing_is_left(valkey_store)


@pytest.mark.setting("send_email_timeout")
async def test_mail_that_cannot_be_in_time_is_buried_and_never_sent_late(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.jobs.BACK_OFF", 0.05)
    smtp.rules.answer = only("content", CLOSE)
    now = job("x@example.org").requested_at
    async with start(send_email_timeout=1):
        late = job("late@example.org", deadline=now - 1)
        soon = job("soon@example.org", deadline=now + 3)
        await enqueue(valkey_store, late, soon)
        await until(lambda: is_done(valkey_store))
    letters = {letter.id: letter for letter in await dead(valkey_store)}
    assert letters[late.id].attempts == 0
    assert letters[soon.id].attempts > 1
    assert {letter.reason for letter in letters.values()} == {"expired"}
    assert await valkey_store.run(QUEUE.result(soon.id)) is Outcome.FAILED
    await nothing_is_left(valkey_store)


async def test_mail_waits_for_its_deadline_though_the_provider_asks_for_longer(
    valkey_store: Store, start: Start
) -> None:
    asked = [job(f"person{number}@example.org") for number in range(2)]
    async with ApiServer(lambda _request: answer(429, Retry_After="31536000")) as api:
        webhook = {"mail_webhook_url": api.url, "mail_webhook_secret": "whsec_" + "c2VjcmV0" * 4}
        async with start(mail_transports="webhook", **webhook):
            for one in asked:
                await enqueue(valkey_store, one)
                await until(lambda one=one: ask_bool(valkey_store, "ZSCORE", MAIL_DELAYED.key(tag="mail"), one.id))  # type: ignore[misc]
    assert len(api.received) == 1
    assert await dead(valkey_store) == []
    waiting = await valkey_store.run(QUEUE.waiting(most=2))
    assert all(due is not None and due < one.deadline for one, (_, due) in zip(asked, waiting, strict=True))


async def test_mail_whose_deadline_comes_while_the_server_dawdles_is_never_given_to_it(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timers that bound an attempt are of no use to a process that was stopped; what is asked last is the clock."""
    skipped = 0.0
    monkeypatch.setattr("mailer.lease.ServerClock.now", lambda clock: time.monotonic() + clock._ahead + skipped)

    def answer(stage: str, _recipient: str) -> None:
        nonlocal skipped
        if stage == "DATA":
            skipped = 400.0

    smtp.rules.answer = answer
    asked = job("jane@example.org")
    async with start():
        await enqueue(valkey_store, asked)
        await until(lambda: is_done(valkey_store))
    assert not smtp.received
    [letter] = await dead(valkey_store)
    assert (letter.reason, letter.history) == ("expired", ("smtp: not wanted any more",))
    await nothing_is_left(valkey_store)


async def test_mail_whose_lease_ends_while_the_server_dawdles_is_left_to_whoever_takes_over(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(stage: str, _recipient: str) -> None:
        if stage == "DATA":
            monkeypatch.setattr("mailer.lease.LEASE", -1.0)

    smtp.rules.answer = answer
    async with start():
        await enqueue(valkey_store, job("jane@example.org"))
        await until(lambda: "DATA" in smtp.commands and not smtp.open)
        assert not smtp.received
        monkeypatch.undo()
        smtp.rules.answer = Rules().answer
        await until(lambda: is_done(valkey_store))
    assert smtp.recipients == ["jane@example.org"]


async def test_clock_of_this_host_does_not_matter(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = job("jane@example.org")
    seconds, _ = await ask(valkey_store, "TIME")
    monkeypatch.setattr("time.time", lambda: int(seconds) + 600.0)
    async with start():
        await enqueue(valkey_store, asked)
        await until(lambda: is_done(valkey_store))
    assert smtp.recipients == ["jane@example.org"]


@pytest.mark.parametrize("raw", [b"nonsense", b"{}", b"\xff\x00", None, b'{"v": 1, "event": "other"}', b"[]"])
async def test_malformed_job_is_buried_and_the_next_delivered(
    valkey_store: Store, smtp: SmtpServer, start: Start, raw: bytes | None
) -> None:
    if raw is not None:
        await ask(valkey_store, "HSET", MAIL_JOBS.key(tag="mail"), "odd", raw)
    await ask(valkey_store, "LPUSH", MAIL_READY.key(tag="mail"), "odd")
    await enqueue(valkey_store, job("jane@example.org"))
    async with start():
        await until(lambda: is_done(valkey_store))
    assert [letter.reason for letter in await dead(valkey_store)] == ["malformed"]
    assert smtp.recipients == ["jane@example.org"]
    await nothing_is_left(valkey_store)


@pytest.mark.parametrize("change", [{"to": "a@b.example\r\nRCPT TO:<x@y.example>"}, {"code": "X"}, {"link": "ftp://x"}])
async def test_job_with_hostile_values_is_rejected(
    valkey_store: Store, smtp: SmtpServer, start: Start, change: dict[str, str]
) -> None:
    await enqueue(valkey_store, job(**{"to": "jane@example.org", **change}))
    async with start():
        await until(lambda: is_done(valkey_store))
    [letter] = await dead(valkey_store)
    assert letter.history[0].startswith("malformed: ")
    assert not smtp.commands


async def test_newer_job_is_left_for_a_newer_mailer(valkey_store: Store, smtp: SmtpServer, start: Start) -> None:
    asked = job("jane@example.org")
    raw = json.dumps({**json.loads(asked.to_json()), "v": 2, "colour": "blue"}).encode()
    await ask(valkey_store, "HSET", MAIL_JOBS.key(tag="mail"), asked.id, raw)
    await ask(valkey_store, "LPUSH", MAIL_READY.key(tag="mail"), asked.id)
    async with start():
        await until(lambda: ask_bool(valkey_store, "ZSCORE", MAIL_DELAYED.key(tag="mail"), asked.id))
    assert await valkey_store.run(QUEUE.show(asked.id)) == raw
    assert not smtp.received


async def ask_bool(store: Store, *words: Any) -> bool:
    return bool(await ask(store, *words))


async def test_job_that_workers_die_of_is_buried_as_poison(valkey_store: Store, smtp: SmtpServer, start: Start) -> None:
    asked = job("jane@example.org")
    await enqueue(valkey_store, asked)
    for number in range(3):
        await valkey_store.run(QUEUE.register(f"w{number}", lease=60))
        await valkey_store.run(QUEUE.claim(f"w{number}", room=1, known=[]))
        await valkey_store.run(QUEUE.renew(f"w{number}", lease=-1))
        assert await valkey_store.run(QUEUE.reap(f"w{number}")) == 1
    async with start():
        await until(lambda: is_done(valkey_store))
    assert [letter.reason for letter in await dead(valkey_store)] == ["poison"]
    assert not smtp.received
    await nothing_is_left(valkey_store)


async def test_hand_of_a_dead_worker_is_taken_over(valkey_store: Store, smtp: SmtpServer, start: Start) -> None:
    await enqueue(valkey_store, *(job(f"a{number}@example.org") for number in range(3)))
    await valkey_store.run(QUEUE.register("dying", lease=60))
    await valkey_store.run(QUEUE.claim("dying", room=9, known=[]))
    await valkey_store.run(QUEUE.renew("dying", lease=-1))
    async with start() as service:
        await until(lambda: is_done(valkey_store) if len(smtp.received) == 3 else False)
        await until(lambda: value(service, "mailer_reaped_total") == 3)
    await nothing_is_left(valkey_store)


@pytest.mark.setting("mail_queue_shards", "mail_concurrency")
async def test_no_more_than_the_concurrency_is_in_hand_over_all_queues(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    smtp.rules.delay = 0.02
    most = 0
    for tag in ("mail", "mail-1", "mail-2"):
        await enqueue(valkey_store, *(job(f"a{number}@{tag}.example") for number in range(20)), tag=tag)
    async with start(mail_queue_shards=3, mail_concurrency=5) as service:
        while len(smtp.received) < 60:
            most = max(most, int(value(service, "mailer_in_hand")))
            await asyncio.sleep(0.005)
        for tag in ("mail", "mail-1", "mail-2"):
            await until(lambda tag=tag: is_done(valkey_store, tag))  # type: ignore[misc]
    assert 1 < most <= 5
    assert smtp.most_open <= 5
    assert sorted(smtp.recipients) == sorted(set(smtp.recipients))


async def test_lost_lease_is_taken_up_under_another_name_and_nothing_is_lost(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.worker.RENEW", 0.1)
    async with start() as service:
        [worker] = service.shards.workers
        await until(lambda: worker.lease is not None)
        assert worker.lease is not None
        before = worker.lease.worker
        await ask(valkey_store, "DEL", MAIL_LEASES.key(tag="mail"))
        await until(lambda: worker.lease is not None and worker.lease.worker != before)
        await enqueue(valkey_store, job("jane@example.org"))
        await until(lambda: bool(smtp.received))
        await until(lambda: is_done(valkey_store))
        assert value(service, "mailer_leases_lost_total") == 1
    await nothing_is_left(valkey_store)


async def test_job_moved_into_the_hand_of_a_lost_lease_is_given_back(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    async with start() as service:
        [worker] = service.shards.workers
        await until(lambda: worker.lease is not None)
        await ask(valkey_store, "DEL", MAIL_LEASES.key(tag="mail"))
        await enqueue(valkey_store, job("jane@example.org"))  # taken by the blocking move that is under way
        await until(lambda: bool(smtp.received))
        await until(lambda: is_done(valkey_store))
    assert len(smtp.received) == 1
    await nothing_is_left(valkey_store)


async def test_delivered_mail_that_comes_again_is_finished_and_not_sent(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.worker.RENEW", 0.05)
    asked = job("jane@example.org")
    finish = MailQueue.finish
    held = asyncio.Event()

    def failing(self: MailQueue, worker: str, job_id: str, outcome: Outcome, *, tell: str = "") -> Call[bool]:
        if held.is_set():
            return finish(self, worker, job_id, outcome, tell=tell)
        return Call((command("NO-SUCH-COMMAND"),), bool)

    monkeypatch.setattr(MailQueue, "finish", failing)
    async with start() as service:
        [worker] = service.shards.workers
        await enqueue(valkey_store, asked, job("other@example.org", deadline=4e9))
        await until(lambda: len(smtp.received) == 2)
        await until(lambda: worker.lease is not None and len(worker.lease.hand) >= 2)
        held.set()
        lost = worker.lease
        assert lost is not None
        while await valkey_store.run(QUEUE.reap(lost.worker)) == -1:  # it may renew its lease in between
            await valkey_store.run(QUEUE.renew(lost.worker, lease=-1))
        await until(lambda: is_done(valkey_store))
    assert sorted(smtp.recipients) == ["jane@example.org", "other@example.org"]
    assert await valkey_store.run(QUEUE.result(asked.id)) is Outcome.DELIVERED


async def test_job_in_the_hand_of_a_worker_that_is_gone_is_found(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis carries a move out after its worker's end, and the worker was killed before it could give that back."""
    monkeypatch.setattr("mailer.reaper.LOOK_BACK_EVERY", 0.1)
    await valkey_store.run(QUEUE.register("gone", lease=60))
    await valkey_store.run(QUEUE.give_back("gone"))
    await enqueue(valkey_store, job("jane@example.org"))
    await QUEUE.wait_for_job(valkey_store, "gone", block=5)
    async with start():
        await until(lambda: is_done(valkey_store) if smtp.received else False)
    assert smtp.recipients == ["jane@example.org"]
    await nothing_is_left(valkey_store)


async def test_stop_lets_what_is_in_hand_end(valkey_store: Store, smtp: SmtpServer, start: Start) -> None:
    smtp.rules.delay = 0.3
    async with start(mail_concurrency=4):
        await enqueue(valkey_store, *(job(f"a{number}@example.org") for number in range(8)))
        await until(lambda: len(smtp.open) == 4)
    assert len(smtp.received) == 4
    depth = await QUEUE.depth(valkey_store)
    assert (depth.ready, depth.taken) == (4, {})


async def test_stop_gives_back_what_does_not_end_in_time(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.worker.DRAIN", 0.1)
    smtp.rules.delay = 60
    async with start(send_email_timeout=100):
        await enqueue(valkey_store, job("jane@example.org"))
        await until(lambda: any(line == "DATA" for line in smtp.commands))
    depth = await QUEUE.depth(valkey_store)
    assert (depth.ready, depth.taken) == (1, {})
    [[job_id, _]] = await valkey_store.run(QUEUE.waiting(most=5))
    raw = await valkey_store.run(QUEUE.show(job_id))
    assert MailJob.from_json(raw or b"").attempts == 0


async def test_no_line_at_info_or_above_betrays_a_person(
    valkey_store: Store, smtp: SmtpServer, start: Start, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    smtp.rules.answer = first("RCPT", "550 <jane@example.org> unknown", "450 <jane@example.org> later")
    async with start():
        await enqueue(valkey_store, *(job("jane@example.org") for _ in range(3)))
        await until(lambda: len(smtp.received) == 1)
    printed = "".join([*capfd.readouterr(), caplog.text])
    assert "mail_delivered" in printed
    assert not any(secret in printed for secret in ("jane", "abcdef134567", "abcdef 134567", "session=s"))


async def test_rules_default_to_a_server_without_faults() -> None:
    assert Rules().answer("RCPT", "x") is None


@pytest.mark.setting("uncounted_emails")
async def test_uncounted_address_is_left_out_of_durations_however_it_is_written(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    async with start(uncounted_emails="Monitor@Bücher.example") as service:
        await enqueue(valkey_store, job("monitor@xn--bcher-kva.example"), job("jane@example.org"))
        await until(lambda: is_done(valkey_store))
        assert len(smtp.received) == 2
        assert value(service, "mailer_request_to_accepted_seconds_count") == 1

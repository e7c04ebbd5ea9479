"""Several queues: each gets its share of a mailer, and no mail waits in one that nobody looks into."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from mailer.settings import Settings
from service_kit.errors import ConfigurationError
from service_kit.settings import load
from shared_store.commands import Call, command
from shared_store.keyspace import MAIL_TAKEN
from shared_store.mail_queue import MailQueue
from shared_store.mail_shards import MOST_SHARDS, queue_tags
from shared_store.store import Store

from .conftest import Start
from .processes import MailerProcess, enqueue, is_done, job, until
from .smtp_server import SmtpServer


def addresses(number: int, tag: str) -> list[str]:
    return [f"person{index}@{tag}.example" for index in range(number)]


async def all_done(store: Store, tags: list[str]) -> bool:
    return all([await is_done(store, tag) for tag in tags])


async def test_full_queue_does_not_keep_the_others_from_their_turn(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    smtp.rules.delay = 0.02
    tags = list(queue_tags(4))
    async with start(mail_queue_shards=4, mail_concurrency=2):
        await enqueue(valkey_store, *map(job, addresses(150, "mail")))
        await until(lambda: len(smtp.received) >= 10)
        for tag in tags[1:]:
            await enqueue(valkey_store, *map(job, addresses(5, tag)), tag=tag)
        await until(lambda: all_done(valkey_store, tags))
    others = [number for number, to in enumerate(smtp.recipients) if not to.endswith("@mail.example")]
    assert len(others) == 15
    assert max(others) < 120  # a quarter of the turns each would be 30 or so


async def test_queues_without_mail_take_nothing_from_a_full_one(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More queues than mails may be in hand, all but one of them empty for long."""
    tags = list(queue_tags(8))
    async with start(mail_queue_shards=8, mail_concurrency=2) as service:
        monkeypatch.setattr("mailer.worker.BLOCK", 3600.0)
        await until(lambda: all(worker.lease for worker in service.shards.workers))
        for tag in tags:  # whoever waits by the shorter time does so no more
            await enqueue(valkey_store, job(f"first@{tag}.example"), tag=tag)
        await until(lambda: len(smtp.received) == 8)
        await enqueue(valkey_store, *map(job, addresses(60, "mail-7")), tag="mail-7")
        await until(lambda: len(smtp.received) == 68, bound=30)
        monkeypatch.setattr("mailer.worker.BLOCK", 0.2)
        for tag in tags:
            await enqueue(valkey_store, job(f"last@{tag}.example"), tag=tag)
        await until(lambda: all_done(valkey_store, tags))


async def test_mail_in_a_queue_that_the_mailer_was_not_told_of_is_sent_and_told(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where auth-api has eight queues already, and the mailer still four."""
    monkeypatch.setattr("mailer.shards.LOOK_EVERY", 0.1)
    async with start(mail_queue_shards=4) as service:
        await enqueue(valkey_store, *map(job, addresses(3, "mail-7")), tag="mail-7")
        await enqueue(valkey_store, job("last@example.org"), tag=f"mail-{MOST_SHARDS - 1}")
        await until(lambda: len(smtp.received) == 4)
        await until(lambda: all_done(valkey_store, ["mail-7", f"mail-{MOST_SHARDS - 1}"]))
        assert service.registry.get_sample_value("mailer_queues_adopted") == 2
        await enqueue(valkey_store, job("later@example.org"), tag="mail-7")
        await until(lambda: "later@example.org" in smtp.recipients)
        for check in service.checks:
            await check.check()
        await until(lambda: all_done(valkey_store, ["mail-7"]))


async def test_what_a_dead_mailer_had_in_hand_of_a_queue_that_is_no_more_is_sent(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the number of queues was lowered while a mailer was killed."""
    monkeypatch.setattr("mailer.shards.LOOK_EVERY", 0.1)
    queue = MailQueue("mail-5")
    await enqueue(valkey_store, job("jane@example.org"), tag="mail-5")
    await valkey_store.run(queue.register("dead", lease=-1))
    await queue.wait_for_job(valkey_store, "dead", block=5)
    async with start(mail_queue_shards=1):
        await until(lambda: smtp.recipients == ["jane@example.org"])
        await until(lambda: is_done(valkey_store, "mail-5"))


@pytest.mark.timeout(120)
async def test_killed_mailers_part_of_every_queue_is_taken_over(
    valkey_url: str, valkey_store: Store, smtp: SmtpServer
) -> None:
    tags = list(queue_tags(3))
    hanging = {"on": True}
    smtp.rules.answer = lambda stage, _recipient: "hang" if stage == "MAIL" and hanging["on"] else None
    with (
        MailerProcess(valkey_url, smtp.port, mail_queue_shards=3, mail_concurrency=9) as killed,
        MailerProcess(valkey_url, smtp.port, mail_queue_shards=3, mail_concurrency=9) as other,
    ):
        await until(lambda: killed.log.read_bytes().count(b"worker_registered") == 3)
        other.signal(signal.SIGSTOP)
        for tag in tags:
            await enqueue(valkey_store, *map(job, addresses(6, tag)), tag=tag)
        await until(lambda: sum(line.startswith("MAIL") for line in smtp.commands) >= 9)
        hands = [await hand(valkey_store, tag) for tag in tags]
        killed.kill()
        hanging["on"] = False
        other.signal(signal.SIGCONT)
        await until(lambda: len(smtp.received) == 18)
        await until(lambda: all_done(valkey_store, tags))
    assert all(hands)  # it held some of each
    assert max(Counter(smtp.recipients).values()) == 1


async def hand(store: Store, tag: str) -> int:
    """How many jobs of a queue all mailers hold."""
    workers = (await MailQueue(tag).depth(store)).taken
    keys = [MAIL_TAKEN.key(tag=tag, worker=worker) for worker in workers]
    counts = await store.run(Call(tuple(command("LLEN", key) for key in keys), list))
    return sum(counts)


def test_setting_takes_as_many_queues_as_mailers_look_into() -> None:
    given = {"redis_url": "redis://unused", "from_address": "login@broker.example", "smtp_server": "127.0.0.1"}

    def shards(number: int) -> int:
        environ = {f"BROKER_{name.upper()}": text for name, text in {**given, "mail_queue_shards": str(number)}.items()}
        return load(Settings, service="mailer", environ=environ).settings.mail_queue_shards

    assert shards(MOST_SHARDS) == MOST_SHARDS
    with pytest.raises(ConfigurationError, match=f"a whole number from 1 to {MOST_SHARDS}"):
        shards(MOST_SHARDS + 1)

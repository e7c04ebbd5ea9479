"""Something else lies where the queue should: the mailer says so, removes it, and goes on sending."""

from __future__ import annotations

import json

import pytest

from mailer import reaper
from shared_store.keyspace import MAIL_DEATHS, MAIL_LEASES, MAIL_READY
from shared_store.mail_queue import MailQueue
from shared_store.store import Store

from .conftest import Start
from .processes import MailerProcess, enqueue, is_done, job, until
from .smtp_server import SmtpServer

QUEUE = MailQueue()
ODD = b"\xff\xfe odd"


async def test_worker_with_an_odd_name_ends_no_mailer_and_its_job_is_sent(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "TELL_EVERY", 0.05)
    await enqueue(valkey_store, job("jane@example.org"))
    await valkey_store.client.zadd(MAIL_LEASES.key(tag="mail"), {ODD: 1})
    await valkey_store.client.execute_command(
        "LMOVE", MAIL_READY.key(tag="mail"), b"mail:{mail}:taken:" + ODD, "RIGHT", "LEFT"
    )
    async with start():
        await until(lambda: smtp.recipients == ["jane@example.org"])
        await until(lambda: is_done(valkey_store))


async def test_junk_that_lies_in_line_twice_is_buried_and_takes_no_place_for_ever(
    valkey_store: Store, smtp: SmtpServer, start: Start
) -> None:
    async with start(mail_concurrency=1):
        for _ in range(3):
            await valkey_store.client.execute_command("RPUSH", MAIL_READY.key(tag="mail"), *[ODD] * 4)
        await enqueue(valkey_store, job("jane@example.org"))
        await until(lambda: smtp.recipients == ["jane@example.org"])
        await until(lambda: is_done(valkey_store))


async def test_junk_in_the_place_of_the_queue_is_told_and_removed_and_the_next_mail_is_sent(
    valkey_url: str, valkey_store: Store
) -> None:
    async with SmtpServer() as server:
        with MailerProcess(valkey_url, server.port) as mailer:
            await mailer.until_registered()
            await valkey_store.client.delete(MAIL_READY.key(tag="mail"))
            await valkey_store.client.set(MAIL_READY.key(tag="mail"), b"\xff" * 5_000_000)
            await valkey_store.client.set(MAIL_DEATHS.key(tag="mail"), "junk")

            async def is_mended() -> bool:
                return not await valkey_store.client.exists(MAIL_READY.key(tag="mail"))

            await until(is_mended)
            await enqueue(valkey_store, job("jane@example.org"))
            await until(lambda: server.recipients == ["jane@example.org"])
            await until(lambda: is_done(valkey_store))
        lines = [json.loads(line) for line in mailer.log.read_text().splitlines() if line.startswith("{")]
    assert {"mail_queue_mended"} <= {line["event"] for line in lines}
    assert len([line for line in lines if "BLMOVE" in line["event"]]) <= 1

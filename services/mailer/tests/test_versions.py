"""Mailers and auth-apis of two versions at once, as during every rolling update."""

from __future__ import annotations

import json

import pytest

from shared_store.commands import Call, command
from shared_store.keyspace import MAIL_JOBS, MAIL_READY
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue
from shared_store.store import Store

from .processes import MailerProcess, enqueue, is_done, job, until
from .smtp_server import SmtpServer

QUEUE = MailQueue()
# A mailer that has read version 1 for long and reads version 2 as well.
NEWER = """
import sys
from shared_store import mail_jobs

read = mail_jobs.MailJob.from_json.__func__
mail_jobs.MailJob.from_json = classmethod(lambda cls, text: read(cls, text.replace(b'"v": 1', b'"v": 2')))
mail_jobs.VERSION = 2
from mailer.__main__ import main
sys.exit(main())
"""


class NewerMailer(MailerProcess):
    """The mailer of the next version."""

    program = ("-c", NEWER)


async def enqueue_as_newer_auth_api(store: Store, *jobs: MailJob, **fields: object) -> None:
    """Queue jobs with other fields than this version writes."""
    for one in jobs:
        raw = json.dumps({**json.loads(one.to_json()), **fields})
        words = (("HSET", MAIL_JOBS.key(tag="mail"), one.id, raw), ("LPUSH", MAIL_READY.key(tag="mail"), one.id))
        await store.run(Call(tuple(command(*word) for word in words), lambda _replies: None))


def jobs(kind: str, number: int) -> list[MailJob]:
    return [job(f"{kind}{index}@example.org") for index in range(number)]


@pytest.mark.timeout(120)
async def test_mails_of_a_newer_auth_api_wait_for_a_newer_mailer_and_none_is_buried(
    valkey_url: str, valkey_store: Store
) -> None:
    async with SmtpServer() as smtp:
        with MailerProcess(valkey_url, smtp.port):
            await enqueue(valkey_store, *jobs("now", 10))
            await enqueue_as_newer_auth_api(valkey_store, *jobs("field", 10), colour={"of": "the button"})
            await enqueue_as_newer_auth_api(valkey_store, *jobs("version", 10), v=2)
            await until(lambda: len(smtp.received) == 20)
            assert not any(to.startswith("version") for to in smtp.recipients)
            with NewerMailer(valkey_url, smtp.port):
                await until(lambda: is_done(valkey_store))
        assert len(set(smtp.recipients)) == len(smtp.recipients) == 30
    assert await valkey_store.run(QUEUE.dead_letters()) == []


@pytest.mark.timeout(120)
async def test_mail_that_no_mailer_could_read_in_time_is_given_up_and_holds_no_place_in_the_queue(
    valkey_url: str, valkey_store: Store
) -> None:
    async with SmtpServer() as smtp:
        with MailerProcess(valkey_url, smtp.port):
            late, other = job("late@example.org", deadline=1.0), job("other@example.org")
            await enqueue_as_newer_auth_api(valkey_store, late, v=2)
            await enqueue_as_newer_auth_api(valkey_store, other, v=2, deadline="another meaning")
            await until(lambda: has_died(valkey_store, late.id))
            await until(lambda: is_delayed(valkey_store, other.id))
    assert not smtp.received


async def has_died(store: Store, job_id: str) -> bool:
    return [(letter.id, letter.reason) for letter in await store.run(QUEUE.dead_letters())] == [(job_id, "expired")]


async def is_delayed(store: Store, job_id: str) -> bool:
    return job_id in {name for name, due in await store.run(QUEUE.waiting(most=9)) if due is not None}

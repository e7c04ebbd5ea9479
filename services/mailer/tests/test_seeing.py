"""What an operator sees of a running mailer: log lines that name the login, counts and ages, and nobody's address."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest

from mailer.reaper import oldest_age
from shared_store.dead_letters import DeadJob
from shared_store.keyspace import MAIL_JOBS, MAIL_READY
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.store import Store

from .conftest import Start
from .processes import MailerProcess, enqueue, is_done, job, until
from .smtp_server import HANG, SmtpServer

QUEUE = MailQueue()
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def port_free_for_a_moment() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_every_line_of_a_job_names_its_login_and_trace_and_no_person(
    valkey_url: str, valkey_store: Store
) -> None:
    common = {"login": "0123456789", "trace": f"00-{TRACE}-00f067aa0ba902b7-01"}
    good, refused, late = (
        job(f"jane-{name}@example.org", **common, **changes)
        for name, changes in (("good", {}), ("refused", {}), ("late", {"deadline": 1.0}))
    )

    def answer(stage: str, recipient: str) -> str | None:
        return "550 5.1.1 jane-refused@example.org is unknown" if stage == "RCPT" and "refused" in recipient else None

    internal = port_free_for_a_moment()
    async with SmtpServer() as server, httpx.AsyncClient() as client:
        server.rules.answer = answer
        with MailerProcess(valkey_url, server.port, internal_port=internal) as mailer:
            await enqueue(valkey_store, good, refused, late)
            await until(lambda: is_done(valkey_store))
            metrics = (await client.get(f"http://127.0.0.1:{internal}/metrics")).text
    lines = [json.loads(line) for line in mailer.log.read_text().splitlines() if line.startswith("{")]
    told = [line for line in lines if "job" in line]
    assert {line["event"] for line in told} >= {"mail_delivered", "mail_given_up"}
    assert all((line["login"], line["trace"]) == ("0123456789", TRACE) for line in told)
    dead = json.dumps([entry.to_json() for entry in await valkey_store.run(QUEUE.dead_letters())])
    for secret in ("jane", good.code, "session="):
        assert secret not in mailer.log.read_text() + dead + metrics
    assert 'mailer_given_up_total{reason="rejected"} 1.0' in metrics
    assert 'mailer_given_up_total{reason="expired"} 1.0' in metrics
    assert "mailer_request_to_accepted_seconds_count 1.0" in metrics
    for gauge in ("ready", "delayed", "taken", "dead", "oldest_seconds"):
        assert f"\nmailer_queue_{gauge} " in metrics


async def test_gauges_tell_of_all_queues_as_they_are(
    valkey_store: Store, smtp: SmtpServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.reaper.TELL_EVERY", 0.05)
    smtp.rules.answer = lambda stage, _recipient: HANG if stage == "MAIL" else None
    now = time.time()
    asked = [job("jane@example.org", requested_at=now - 50, deadline=now + 3600) for _ in range(7)]
    await enqueue(valkey_store, *asked[:2])
    await valkey_store.run(QUEUE.register("other", lease=3600))
    await valkey_store.run(QUEUE.claim("other", room=2, known=[]))
    await valkey_store.run(QUEUE.delay("other", asked[0], seconds=3600))
    await valkey_store.run(QUEUE.bury("other", DeadJob.of(asked[1], "expired", 1.0), Outcome.FAILED))
    async with start(mail_queue_shards=2, mail_concurrency=1, send_email_timeout=300) as service:

        def gauge(name: str) -> float:
            return service.registry.get_sample_value(f"mailer_{name}") or 0.0

        await enqueue(valkey_store, *asked[2:5])
        await until(lambda: gauge("in_hand") == 1)
        await enqueue(valkey_store, *asked[5:], tag="mail-1")
        await until(lambda: gauge("queue_ready") + gauge("queue_taken") == 5)
        await until(lambda: gauge("queue_oldest_seconds") >= 50)
        assert (gauge("queue_delayed"), gauge("queue_dead"), gauge("store_up")) == (1, 1, 1)
        assert gauge("queue_taken") >= 1
        smtp.rules.answer = lambda _stage, _recipient: None
        smtp.drop_connections()
        await until(lambda: len(smtp.received) == 5)
        await until(lambda: gauge("queue_ready") + gauge("queue_taken") + gauge("queue_oldest_seconds") == 0)


async def test_request_that_is_no_time_or_no_job_at_all_does_not_end_the_watch(
    valkey_store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.reaper.TELL_EVERY", 0.05)
    hostile = (b"[" * 100_000, b'{"requested_at":1e400}', b'{"requested_at":' + b"9" * 400 + b"}", b"null", b"\xff")
    for raw in hostile:
        await valkey_store.client.hset(MAIL_JOBS.key(tag="mail"), "x", raw)
        assert await oldest_age(valkey_store, QUEUE, time.time()) == 0.0
        await valkey_store.client.rpush(MAIL_READY.key(tag="mail"), "x")
        assert await oldest_age(valkey_store, QUEUE, time.time()) == 0.0
        async with start():
            await until(lambda: is_done(valkey_store))
    assert {letter.reason for letter in await valkey_store.run(QUEUE.dead_letters())} == {"malformed"}

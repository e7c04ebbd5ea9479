"""What an operator sees of a running mailer: log lines that name the login, counts and ages, and nobody's address."""

from __future__ import annotations

import json
import socket

import httpx

from shared_store.mail_queue import MailQueue
from shared_store.store import Store

from .processes import MailerProcess, enqueue, is_done, job, until
from .smtp_server import SmtpServer

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

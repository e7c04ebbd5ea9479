"""Connections that take long to open, that wait, and that have served their time, against a real server."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient
from mailer.silence import Silence
from mailer.transports import smtp_session
from mailer.transports.smtp import SmtpTransport
from mailer.transports.smtp_opening import address_literal
from mailer.transports.smtp_pool import SPARE, SmtpPool
from mailer.transports.smtp_session import MOST_REFUSALS
from mailer.verdicts import Fault, Kind

from .processes import packets_dropped, until
from .smtp_server import HANG, Rules, SmtpServer, only

MAIL = Mail("id", Sender.of("N", parse_recipient("a@b.example")), parse_recipient("c@d.example"), "s", "t", "h", ())
PATIENT = 30.0


def greet_late(server: SmtpServer) -> None:
    """Let a server say what it kept back."""
    server.rules.answer = Rules().answer
    for connection in server.open:
        connection._transport.write(b"220 late ESMTP\r\n")


async def test_connection_that_comes_too_late_for_one_mail_serves_the_next(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.answer = only("greeting", HANG)
    verdict = await transport.send(MAIL, bound=PATIENT, silence=0.1)
    assert (verdict.kind, verdict.fault, verdict.for_all) == (Kind.TRY_AGAIN, Fault.TRANSPORT, True)
    greet_late(server)
    await until(lambda: bool(transport._pool._idle))
    assert (await transport.send(MAIL, bound=PATIENT)).kind is Kind.DELIVERED
    assert (server.connections, len(server.received)) == (1, 1)


async def test_mail_that_waited_long_enough_spares_the_others_the_wait(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.answer = only("greeting", HANG)
    patient = asyncio.create_task(transport.send(MAIL, bound=PATIENT))
    first = asyncio.create_task(transport.send(MAIL, bound=PATIENT, silence=1.0))
    await until(lambda: server.connections == 2)
    others = [asyncio.create_task(transport.send(MAIL, bound=PATIENT, silence=1.0)) for _ in range(3)]
    done, _ = await asyncio.wait({first, *others, patient}, return_when=asyncio.FIRST_COMPLETED)
    assert first in done
    await asyncio.sleep(0)
    assert [task.done() for task in others] == [True] * 3
    assert {(await task).for_all for task in others} == {True}
    greet_late(server)
    assert (await patient).kind is Kind.DELIVERED


async def test_mail_takes_whichever_connection_is_there_first(server: SmtpServer, transport: SmtpTransport) -> None:
    await transport.send(MAIL, bound=PATIENT)
    async with Silence(None) as silence:
        session = await transport._pool.take(silence)
        server.rules.answer = only("greeting", HANG)
        waiting = asyncio.create_task(transport.send(MAIL, bound=PATIENT))
        await until(lambda: server.connections == 2)
        transport._pool.keep(session)
        assert (await waiting).kind is Kind.DELIVERED
    greet_late(server)
    await until(lambda: len(transport._pool._idle) == 2)


async def test_server_that_never_greets_is_left_with_few_connections(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.answer = only("greeting", HANG)
    await asyncio.gather(*(transport.send(MAIL, bound=PATIENT, silence=0.2) for _ in range(SPARE * 4)))
    await until(lambda: len(server.open) == SPARE)
    await transport.aclose()
    await until(lambda: not server.open)


async def test_mail_waits_for_as_long_as_there_are_signs_of_life() -> None:
    async with Silence(2.0) as silence:
        for _ in range(6):
            await asyncio.sleep(0.4)
            silence.heard()
    with pytest.raises(TimeoutError):
        async with Silence(0.05) as silence:
            await asyncio.sleep(PATIENT)
    assert silence.too_long
    silence.heard()


@pytest.mark.parametrize(
    ("name", "said"),
    [("mailer.example.org", "mailer.example.org"), ("mailer-5d9f7", "[127.0.0.1]"), ("localhost", "[127.0.0.1]"),
     ("localhost.localdomain", "[127.0.0.1]"), ("my_host.example", "[127.0.0.1]"), ("", "[127.0.0.1]")],
)  # fmt: skip
async def test_server_is_told_a_full_name_or_else_the_address(
    server: SmtpServer, transport: SmtpTransport, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    assert (await transport.send(MAIL, bound=PATIENT)).kind is Kind.DELIVERED
    assert server.commands[0] == f"EHLO {said}"


def test_address_of_version_6_is_told_as_such() -> None:
    assert address_literal("fe80::1%eth0") == "[IPv6:fe80::1]"


async def test_failure_that_nobody_foresaw_reaches_the_mail_that_waits() -> None:
    async def fail(_heard: object) -> Any:
        raise RuntimeError("unforeseen")

    with pytest.raises(RuntimeError, match="unforeseen"):
        async with Silence(PATIENT) as silence:
            await SmtpPool(fail).take(silence)


async def test_address_that_does_not_answer_does_not_keep_mails_from_the_next(
    server: SmtpServer, transport: SmtpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with packets_dropped() as silent:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (silent, server.port)]

        async def getaddrinfo(*_: object, **__: object) -> object:
            return found

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        assert (await transport.send(MAIL, bound=PATIENT)).kind is Kind.DELIVERED


async def test_resolver_that_hangs_is_asked_once_for_all_mails(
    transport: SmtpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def getaddrinfo(*_: object, **__: object) -> object:
        asked.append(1)
        await asyncio.sleep(PATIENT)
        raise OSError("no answer")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    verdicts = await asyncio.gather(*(transport.send(MAIL, bound=PATIENT, silence=0.2) for _ in range(10)))
    assert {(verdict.fault, verdict.for_all) for verdict in verdicts} == {(Fault.TRANSPORT, True)}
    assert len(asked) == 1


async def test_connection_on_which_much_was_refused_is_given_up_with_a_goodbye(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.answer = only("RCPT", "550 5.1.1 nobody")
    for _ in range(MOST_REFUSALS):
        await transport.send(MAIL, bound=PATIENT)
    assert server.connections == 1
    await until(lambda: server.commands[-1] == "QUIT")
    await transport.send(MAIL, bound=PATIENT)
    assert server.connections == 2


async def test_old_connection_is_replaced_however_much_it_is_used(
    server: SmtpServer, transport: SmtpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    await transport.send(MAIL, bound=PATIENT)
    monkeypatch.setattr(smtp_session, "LONGEST_LIFE", 0.0)
    for _ in range(2):
        assert (await transport.send(MAIL, bound=PATIENT)).kind is Kind.DELIVERED
    assert server.connections == 2


async def test_connection_that_is_closed_as_soon_as_it_is_open_is_the_transports_fault(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    def answer(stage: str, _recipient: str) -> str | None:
        if stage == "EHLO":
            asyncio.get_running_loop().call_soon(server.drop_connections)
        return None

    server.rules.answer = answer
    verdict = await transport.send(MAIL, bound=PATIENT)
    assert (verdict.kind, verdict.fault) == (Kind.TRY_AGAIN, Fault.TRANSPORT)
    assert "timed out" not in verdict.reason


async def test_refusal_stands_though_the_server_then_falls_silent(server: SmtpServer, transport: SmtpTransport) -> None:
    replies = {"RCPT": "550 5.1.1 nobody", "RSET": HANG}
    server.rules.answer = lambda stage, _recipient: replies.get(stage)
    verdict = await transport.send(MAIL, bound=PATIENT, silence=0.2)
    assert (verdict.kind, verdict.fault) == (Kind.GIVE_UP, Fault.RECIPIENT)
    server.rules.answer = Rules().answer
    assert (await transport.send(MAIL, bound=PATIENT)).kind is Kind.DELIVERED

"""SMTP against a real server that misbehaves at every stage."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from mailer.errors import REFUSED_PAUSE, TransportError
from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient
from mailer.transports.smtp import SmtpTransport
from mailer.transports.smtp_opening import SmtpOptions
from mailer.verdicts import Fault, Kind

from .smtp_server import CLOSE, HANG, Rules, SmtpServer, first, only

SENDER = Sender.of("Portier", parse_recipient("login@broker.example"))
A, G, D = Kind.TRY_AGAIN, Kind.GIVE_UP, Kind.DELIVERED
BOTH = pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "step by step"])
Open = Callable[..., SmtpTransport]


def mail(to: str = "jane@example.org", text: str = "Hello\n") -> Mail:
    return Mail("id", SENDER, parse_recipient(to), "Subject", text, "<p>", ())


@BOTH
async def test_mail_arrives_whole_with_its_dots(
    server: SmtpServer, transport: SmtpTransport, extensions: tuple[str, ...]
) -> None:
    server.rules.extensions = extensions
    sent = mail(text=".\n..\n.dot\nend.\n")
    assert (await transport.send(sent, bound=5)).kind is D
    [received] = server.received
    assert (received.sender, received.recipient, received.options) == ("login@broker.example", "jane@example.org", "")
    text = received.message.get_body(("plain",))
    assert text is not None
    assert text.get_content().split() == [".", "..", ".dot", "end."]


async def test_one_connection_serves_many_mails(server: SmtpServer, transport: SmtpTransport) -> None:
    for _ in range(50):
        assert (await transport.send(mail(), bound=5)).kind is D
    assert server.connections == 1
    await transport.aclose()
    assert not transport._pool._idle


@BOTH
@pytest.mark.parametrize(
    ("stage", "reply", "kind", "fault", "reason"),
    [
        ("greeting", "554 5.3.2 not today", A, Fault.TRANSPORT, "connect 554 5.3.2"),
        ("greeting", CLOSE, A, Fault.TRANSPORT, "connect "),
        ("greeting", "what is this", A, Fault.TRANSPORT, "connect "),
        ("EHLO", CLOSE, A, Fault.TRANSPORT, "connect "),
        ("MAIL", "451 4.3.0 later", A, Fault.TRANSPORT, "mail 451 4.3.0"),
        ("MAIL", "550 5.7.1 not you", A, Fault.TRANSPORT, "mail 550 5.7.1"),
        ("MAIL", CLOSE, A, Fault.TRANSPORT, "mail connection lost"),
        ("RCPT", "450 4.2.0 later", A, Fault.RECIPIENT, "rcpt 450 4.2.0"),
        ("RCPT", "550 5.1.1 <jane@example.org> unknown", G, Fault.RECIPIENT, "rcpt 550 5.1.1"),
        ("RCPT", "421 4.3.2 closing", A, Fault.TRANSPORT, "rcpt 421 4.3.2"),
        ("RCPT", CLOSE, A, Fault.TRANSPORT, "rcpt connection lost"),
        ("DATA", "451 4.3.0 full", A, Fault.TRANSPORT, "data 451 4.3.0"),
        ("DATA", "554 5.6.0 no", G, Fault.MAIL, "data 554 5.6.0"),
        ("DATA", CLOSE, A, Fault.TRANSPORT, "data connection lost"),
        ("content", "452 4.3.1 disk", A, Fault.TRANSPORT, "content 452 4.3.1"),
        ("content", "554 5.7.1 spam", G, Fault.MAIL, "content 554 5.7.1"),
        ("content", CLOSE, A, Fault.UNKNOWN, "content connection lost"),
        ("content", "rubbish", A, Fault.UNKNOWN, "content connection lost"),
    ],
)
async def test_fault_at_a_stage_is_judged_and_the_next_mail_goes_through(
    server: SmtpServer, transport: SmtpTransport, extensions: tuple[str, ...], stage: str, reply: str, kind: Kind,
    fault: Fault, reason: str,
) -> None:  # fmt: skip
    server.rules.extensions = extensions
    server.rules.answer = first(stage, reply)
    if stage == "DATA":  # the test server asks twice at this stage
        server.rules.answer = first(stage, reply, reply)
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault) == (kind, fault)
    assert verdict.reason.startswith(reason)
    assert "jane" not in verdict.reason
    server.rules.answer = Rules().answer
    assert (await transport.send(mail(), bound=5)).kind is D
    assert server.recipients == ["jane@example.org"]


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "content"])
async def test_silence_at_any_stage_ends_with_the_bound(
    server: SmtpServer, transport: SmtpTransport, stage: str
) -> None:
    server.rules.answer = only(stage, HANG)
    verdict = await transport.send(mail(), bound=0.3)
    assert (verdict.kind, verdict.fault) == (A, Fault.UNKNOWN if stage == "content" else Fault.TRANSPORT)
    assert "timed out" in verdict.reason
    server.rules.answer = Rules().answer
    assert (await transport.send(mail(), bound=5)).kind is D


async def test_answer_to_the_content_may_take_longer_than_all_before(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.delay = 0.6
    assert (await transport.send(mail(), bound=0.4, reply=60)).kind is D
    server.rules.answer = only("content", HANG)
    verdict = await transport.send(mail(), bound=60, reply=0.2)
    assert (verdict.fault, verdict.reason) == (Fault.UNKNOWN, "content timed out")


async def test_refused_recipient_whose_data_is_wanted_all_the_same_costs_no_mail(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    replies = {"RCPT": "550 5.1.1 unknown", "DATA": "354 go on"}
    server.rules.answer = lambda stage, _recipient: replies.get(stage)
    assert (await transport.send(mail(), bound=5)).reason == "rcpt 550 5.1.1"
    server.rules.answer = Rules().answer
    assert (await transport.send(mail(), bound=5)).kind is D
    assert len(server.received) == 1


async def test_connection_closed_while_idle_is_replaced_within_the_attempt(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    for _ in range(3):
        assert (await transport.send(mail(), bound=5)).kind is D
        server.drop_connections()
    assert len(server.received) == 3


@pytest.mark.parametrize("reply", ["421 4.4.2 too long idle", CLOSE])
async def test_connection_that_turns_out_stale_is_replaced_within_the_attempt(
    server: SmtpServer, transport: SmtpTransport, reply: str
) -> None:
    await transport.send(mail(), bound=5)
    server.rules.answer = first("MAIL", reply)
    assert (await transport.send(mail(), bound=5)).kind is D
    assert server.connections == 2


async def test_server_that_allows_few_mails_a_connection_gets_them_all(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.mails_per_connection = 3
    verdicts = [await transport.send(mail(), bound=5) for _ in range(10)]
    assert {verdict.kind for verdict in verdicts} == {D}


async def test_server_that_is_not_there_is_told_as_such(unused_tcp_port: int) -> None:
    transport = SmtpTransport(SmtpOptions("127.0.0.1", unused_tcp_port))
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault) == (A, Fault.TRANSPORT)
    assert verdict.reason.startswith("connect failed")
    with pytest.raises(TransportError, match="connect"):
        await transport.check()


@BOTH
async def test_international_address_needs_smtputf8(
    server: SmtpServer, transport: SmtpTransport, extensions: tuple[str, ...]
) -> None:
    server.rules.extensions = extensions
    verdict = await transport.send(mail("björn@example.org"), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason) == (G, Fault.MAIL, "smtputf8 not offered")
    assert not any(line.startswith("MAIL") for line in server.commands)
    server.rules.extensions = (*extensions, "SMTPUTF8", "8BITMIME")
    await transport.aclose()
    assert (await transport.send(mail("björn@example.org"), bound=5)).kind is D
    [received] = server.received
    assert (received.recipient, received.options) == ("björn@example.org", "BODY=8BITMIME SMTPUTF8")


async def test_server_without_ehlo_is_greeted_as_in_old_times(server: SmtpServer, transport: SmtpTransport) -> None:
    server.rules.answer = only("EHLO", "502 5.5.1 what?")
    assert (await transport.send(mail(), bound=5)).kind is D


# --- TLS and AUTH ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(made)
    return made


@pytest.mark.parametrize(
    ("security", "offered", "kind", "encrypted"),
    [
        ("opportunistic", True, D, True), ("opportunistic", False, D, False), ("starttls", True, D, True),
        ("starttls", False, A, False), ("off", True, D, False), ("tls", True, D, True),
    ],
)  # fmt: skip
async def test_security_setting_decides_what_is_sent_in_the_clear(
    authority: trustme.CA, ca_file: Path, security: str, offered: bool, kind: Kind, encrypted: bool
) -> None:
    tls = context(authority, "localhost") if offered else None
    async with SmtpServer(Rules(tls=tls, implicit_tls=security == "tls")) as server:
        options = SmtpOptions("localhost", server.port, security=security, ca_file=ca_file)  # type: ignore[arg-type]
        transport = SmtpTransport(options)
        verdict = await transport.send(mail(), bound=5)
        assert verdict.kind is kind, verdict
        assert [received.tls for received in server.received] == ([encrypted] if kind is D else [])
        if kind is A:
            assert verdict.reason == "tls not offered: STARTTLS"
            assert not any(line.startswith("MAIL") for line in server.commands)
        await transport.aclose()


@pytest.mark.parametrize("security", ["opportunistic", "starttls", "tls"])
@pytest.mark.parametrize("problem", ["other name", "unknown authority"])
async def test_bad_certificate_is_refused_and_said(
    authority: trustme.CA, ca_file: Path, security: str, problem: str
) -> None:
    name, signer = ("other.example", authority) if problem == "other name" else ("localhost", trustme.CA())
    async with SmtpServer(Rules(tls=context(signer, name), implicit_tls=security == "tls")) as server:
        options = SmtpOptions("localhost", server.port, security=security, ca_file=ca_file)  # type: ignore[arg-type]
        transport = SmtpTransport(options)
        verdict = await transport.send(mail(), bound=5)
        assert (verdict.kind, verdict.fault) == (A, Fault.TRANSPORT)
        assert verdict.reason.startswith("tls certificate refused"), verdict
        with pytest.raises(TransportError, match="certificate refused"):
            await transport.check()
        assert not server.received


async def test_client_certificate_is_shown(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    own = authority.issue_cert("mailer.example")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own.cert_chain_pems[0].write_to_path(certificate)
    own.private_key_pem.write_to_path(key)
    tls = context(authority, "localhost")
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    async with SmtpServer(Rules(tls=tls, implicit_tls=True)) as server:
        options = SmtpOptions("localhost", server.port, security="tls", ca_file=ca_file)
        assert (await SmtpTransport(options).send(mail(), bound=5)).kind is A
        with_own = SmtpTransport(replace(options, client_cert=certificate, client_key=key))
        assert (await with_own.send(mail(), bound=5)).kind is D
        await with_own.aclose()


def test_unreadable_certificate_file_is_told_at_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(TransportError, match="smtp_ca_file"):
        SmtpTransport(SmtpOptions("localhost", 25, ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize(("password", "kind"), [("right", D), ("wrong", A)])
async def test_credentials_are_shown_and_their_refusal_is_the_transports_fault(password: str, kind: Kind) -> None:
    async with SmtpServer(Rules(auth=("user", "right"))) as server:
        transport = SmtpTransport(SmtpOptions("127.0.0.1", server.port, username="user", password=password))
        verdict = await transport.send(mail(), bound=5)
        assert verdict.kind is kind
        assert kind is D or (verdict.reason, verdict.fault) == ("auth 535 5.7.8", Fault.TRANSPORT)
        await transport.aclose()


async def test_server_that_offers_no_auth_gets_no_mail_when_credentials_are_set(server: SmtpServer) -> None:
    transport = SmtpTransport(SmtpOptions("127.0.0.1", server.port, username="user", password="secret"))
    assert (await transport.send(mail(), bound=5)).reason == "tls not offered: AUTH"
    assert "secret" not in repr(transport._options)


async def test_check_says_what_was_found(server: SmtpServer, transport: SmtpTransport) -> None:
    server.rules.extensions = ("PIPELINING", "SMTPUTF8", "SIZE 1000000")
    found = await transport.check()
    assert found == f"127.0.0.1:{server.port}, no TLS, offers PIPELINING, SMTPUTF8, SIZE 1000000"
    assert not any(line.startswith("MAIL") for line in server.commands)


async def test_check_tells_of_certificate_and_password(authority: trustme.CA, ca_file: Path) -> None:
    rules = Rules(tls=context(authority, "localhost"), auth=("user", "right"))
    async with SmtpServer(rules) as server:
        options = SmtpOptions(
            "localhost", server.port, username="user", password="right", security="starttls", ca_file=ca_file
        )
        found = await SmtpTransport(options).check()
        assert "TLSv1.3, certificate for localhost, " in found
        assert " days left, user and password accepted, offers " in found
        with pytest.raises(TransportError, match=r"smtp: auth 535 5\.7\.8") as caught:
            await SmtpTransport(replace(options, password="wrong")).check()
        assert caught.value.pause == REFUSED_PAUSE
        assert not any(line.startswith("MAIL") for line in server.commands)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2 LOGIN PLAIN"])
@pytest.mark.parametrize(("password", "kind"), [("rïght", D), ("wrong", A)])
async def test_password_is_shown_in_a_way_that_the_server_offers(mechanism: str, password: str, kind: Kind) -> None:
    async with SmtpServer(Rules(auth=("user", "rïght"), mechanisms=mechanism)) as server:
        transport = SmtpTransport(SmtpOptions("127.0.0.1", server.port, username="user", password=password))
        verdict = await transport.send(mail(), bound=5)
        assert verdict.kind is kind, verdict
        assert kind is D or verdict.reason == "auth 535 5.7.8"
        await transport.aclose()


async def test_server_that_offers_only_unknown_ways_to_sign_in_gets_no_mail() -> None:
    async with SmtpServer(Rules(auth=("user", "right"), mechanisms="GSSAPI NTLM")) as server:
        transport = SmtpTransport(SmtpOptions("127.0.0.1", server.port, username="user", password="right"))
        verdict = await transport.send(mail(), bound=5)
        assert (verdict.kind, verdict.fault) == (A, Fault.TRANSPORT)
        assert not any(line.startswith("MAIL") for line in server.commands)


# --- what hostile or broken servers do ---


@pytest.mark.parametrize("kind", ["flood of replies", "reply without end", "line without end", "codes that differ"])
async def test_server_that_talks_nonsense_is_hung_up_on(
    server: SmtpServer, transport: SmtpTransport, kind: str
) -> None:
    nonsense = {
        "flood of replies": "250 2.1.0 ok\r\n" * 100_000 + "250 ok",
        "reply without end": "250-ok\r\n" * 100_000 + "550-5.1.1 no",
        "line without end": "250-" + "a" * 300_000,
        "codes that differ": "250-fine\r\n550 5.1.1 no",
    }[kind]
    server.rules.answer = only("MAIL", nonsense)
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault) == (A, Fault.TRANSPORT)
    server.rules.answer = Rules().answer
    assert (await transport.send(mail(), bound=5)).kind is D
    assert len(server.received) == 1


async def test_reply_of_many_lines_is_one_reply(server: SmtpServer, transport: SmtpTransport) -> None:
    server.rules.answer = only("RCPT", "550-5.1.1 <jane@example.org>\r\n550-5.1.1 is\r\n550 5.1.1 unknown")
    assert (await transport.send(mail(), bound=5)).reason == "rcpt 550 5.1.1"
    assert (await transport.send(mail(), bound=5)).reason == "rcpt 550 5.1.1"
    assert server.connections == 1


async def test_command_slipped_in_behind_starttls_is_not_taken_for_the_servers_word(
    authority: trustme.CA, ca_file: Path
) -> None:
    # Who sits on the way appends replies to the last one that is not encrypted: they must not count afterwards.
    injected = "220 2.0.0 go\r\n250-evil\r\n250 AUTH LOGIN\r\n235 2.7.0 welcome\r\n250 ok"
    rules = Rules(tls=context(authority, "localhost"), auth=("user", "right"), starttls_reply=injected)
    async with SmtpServer(rules) as server:
        options = SmtpOptions(
            "localhost", server.port, username="user", password="wrong", security="starttls", ca_file=ca_file
        )
        verdict = await SmtpTransport(options).send(mail(), bound=5)
        assert verdict.kind is A
        assert verdict.reason == "auth 535 5.7.8" or verdict.reason.startswith("tls"), verdict
        assert not server.received


@BOTH
async def test_mail_that_is_too_big_for_the_server_is_not_begun(
    server: SmtpServer, transport: SmtpTransport, extensions: tuple[str, ...]
) -> None:
    server.rules.extensions = (*extensions, "SIZE 2000")
    verdict = await transport.send(mail(text="x" * 3000), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason) == (G, Fault.MAIL, "size over 2000")
    assert not any(line.startswith("MAIL") for line in server.commands)
    sent = mail()
    assert (await transport.send(sent, bound=5)).kind is D
    assert server.received[0].options == f"SIZE={len(sent.to_bytes())}"


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE many"])
async def test_size_without_a_bound_bounds_nothing(server: SmtpServer, transport: SmtpTransport, size: str) -> None:
    server.rules.extensions = (size,)
    assert (await transport.send(mail(), bound=5)).kind is D


async def test_connections_whose_other_end_vanished_without_a_word_cost_no_mail(
    server: SmtpServer, transport: SmtpTransport
) -> None:
    server.rules.delay = 0.2
    await asyncio.gather(*(transport.send(mail(), bound=5) for _ in range(4)))
    assert server.connections == 4
    server.forsake_connections()
    verdict = await transport.send(mail(), bound=3)
    assert verdict.kind is D
    assert server.connections == 5
    assert len(transport._pool._idle) == 1

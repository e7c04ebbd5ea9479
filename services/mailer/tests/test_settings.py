"""What each of the mailer's settings does: `mailer send-test` with it, and a server that shows the difference."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from .command_line import Mailer, run
from .smtp_server import Rules, SmtpServer

NOBODY = "redis://127.0.0.1:1"  # a test mail needs no Redis


async def send(smtp_port: int = 1, /, **settings: str) -> tuple[int, str]:
    """Send a test mail with the mailer as it is configured; gives the exit code and what it said."""
    mailer = Mailer(NOBODY, smtp_port)
    mailer.set(**settings)
    return await run(mailer, "send-test", "jane@example.org")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificates(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """Give the settings with files: the authority, and a certificate of ours."""
    ours = authority.issue_cert("mailer.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    names = {"smtp_ca_file": "ca.pem", "smtp_client_cert": "cert.pem", "smtp_client_key": "key.pem"}
    return {setting: str(tmp_path / name) for setting, name in names.items()}


def tls(authority: trustme.CA, *, asks: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if asks:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.setting("smtp_server", "from_name", "from_address")
async def test_mail_goes_to_the_server_from_the_sender_that_are_set() -> None:
    async with SmtpServer() as server, SmtpServer() as other:
        code, told = await send(server.port, from_name="Zoë's Shop", from_address="Hello@bücher.example")
        assert code == 0, told
    assert other.received == []
    [mail] = server.received
    assert mail.sender == "Hello@xn--bcher-kva.example"
    assert str(mail.message["From"]) == "Zoë's Shop <Hello@xn--bcher-kva.example>"
    assert mail.message["List-Id"] == "Authentication <auth.xn--bcher-kva.example>"


@pytest.mark.setting("smtp_username", "smtp_password")
async def test_user_and_password_are_shown_to_the_server() -> None:
    async with SmtpServer(Rules(auth=("us", "sesame"))) as server:
        assert (await send(server.port, smtp_username="us", smtp_password="wrong"))[0] == 1
        assert (await send(server.port, smtp_username="us", smtp_password="sesame"))[0] == 0
        assert server.recipients == ["jane@example.org"]


@pytest.mark.setting("smtp_security")
async def test_security_says_whether_a_mail_may_go_in_the_clear() -> None:
    async with SmtpServer() as server:
        assert (await send(server.port, smtp_security="starttls"))[0] == 1
        assert (await send(server.port, smtp_security="off"))[0] == 0
        assert [mail.tls for mail in server.received] == [False]


@pytest.mark.setting("smtp_ca_file")
async def test_certificates_of_ones_own_authority_are_believed(
    authority: trustme.CA, certificates: dict[str, str]
) -> None:
    async with SmtpServer(Rules(tls=tls(authority), implicit_tls=True)) as server:
        assert (await send(server.port, smtp_security="tls"))[0] == 1
        assert (await send(server.port, smtp_security="tls", smtp_ca_file=certificates["smtp_ca_file"]))[0] == 0
        assert [mail.tls for mail in server.received] == [True]


@pytest.mark.setting("smtp_client_cert", "smtp_client_key")
async def test_certificate_of_ours_is_shown(authority: trustme.CA, certificates: dict[str, str]) -> None:
    async with SmtpServer(Rules(tls=tls(authority, asks=True), implicit_tls=True)) as server:
        assert (await send(server.port, smtp_security="tls", smtp_ca_file=certificates["smtp_ca_file"]))[0] == 1
        assert (await send(server.port, smtp_security="tls", **certificates))[0] == 0


@pytest.mark.setting("sendmail_command")
async def test_sendmail_gets_the_mail(tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/mail\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    code, told = await send(sendmail_command=str(program), mail_transports="sendmail")
    assert code == 0, told
    assert "login@broker.example" in (tmp_path / "arguments").read_text()
    assert "Subject:" in (tmp_path / "mail").read_text()


@dataclass
class MailApi:
    """Says yes to everything, and keeps what it was asked."""

    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((request.split(" ")[1], headers, body))
        told = json.dumps({"ErrorCode": 0, "id": "x"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(told), told))
        await writer.drain()
        writer.close()


@pytest.fixture
async def api() -> AsyncIterator[MailApi]:
    made = MailApi()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.mark.setting("postmark_token", "postmark_api")
async def test_postmark_is_asked_at_its_address_with_its_token(api: MailApi) -> None:
    where = f"http://127.0.0.1:{api.port}/here"
    code, told = await send(postmark_token="t-1", postmark_api=where, mail_transports="postmark")
    assert code == 0, told
    [(path, headers, body)] = api.requests
    assert (path, headers["x-postmark-server-token"]) == ("/here", "t-1")
    assert json.loads(body)["To"] == "jane@example.org"


@pytest.mark.setting("mailgun_token", "mailgun_domain", "mailgun_api")
async def test_mailgun_is_asked_for_its_domain_at_its_address_with_its_token(api: MailApi) -> None:
    where = f"http://127.0.0.1:{api.port}/v9"
    code, told = await send(
        mailgun_token="t-2", mailgun_domain="mg.example", mailgun_api=where, mail_transports="mailgun"
    )
    assert code == 0, told
    [(path, headers, _)] = api.requests
    assert path == "/v9/mg.example/messages"
    assert b64decode(headers["authorization"].removeprefix("Basic ")) == b"api:t-2"


@pytest.mark.setting("sendgrid_token", "sendgrid_api")
async def test_sendgrid_is_asked_at_its_address_with_its_token(api: MailApi) -> None:
    where = f"http://127.0.0.1:{api.port}/send"
    code, told = await send(sendgrid_token="t-3", sendgrid_api=where, mail_transports="sendgrid")
    assert code == 0, told
    [(path, headers, _)] = api.requests
    assert (path, headers["authorization"]) == ("/send", "Bearer t-3")


@pytest.mark.setting("mail_transports")
async def test_transports_are_tried_in_the_order_that_is_set(api: MailApi) -> None:
    where = f"http://127.0.0.1:{api.port}/send"
    async with SmtpServer() as server:
        for order in ("smtp,sendgrid", "sendgrid,smtp"):
            code, told = await send(server.port, sendgrid_token="t", sendgrid_api=where, mail_transports=order)
            assert code == 0, told
            assert (len(server.received), len(api.requests)) == ((1, 0) if order.startswith("smtp") else (1, 1))
    # The server is away now, so that the next one gets the mail.
    code, told = await send(server.port, sendgrid_token="t", sendgrid_api=where, mail_transports="smtp,sendgrid")
    assert code == 0, told
    assert len(api.requests) == 2


@pytest.mark.setting("data_dir")
async def test_template_and_sentence_of_ones_own_are_mailed(tmp_path: Path) -> None:
    (tmp_path / "tmpl").mkdir()
    (tmp_path / "tmpl" / "login_mail.txt").write_text("Ours: {{ code }}\n")
    async with SmtpServer() as server:
        code, told = await send(server.port, data_dir=str(tmp_path))
        assert code == 0, told
    text = server.received[0].message.get_body(("plain",))
    assert text is not None
    assert str(text.get_content()).startswith("Ours: ")


@pytest.mark.parametrize(("name", "value"), [("from_address", "us@-x-.example"), ("uncounted_emails", "a@b_c.example")])
async def test_address_that_cannot_be_mailed_is_told_with_its_source(name: str, value: str) -> None:
    code, told = await send(**{name: value})
    assert code == 2
    assert f"{name} (environment BROKER_{name.upper()}): can't be used" in told

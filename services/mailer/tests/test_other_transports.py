"""The mail APIs and sendmail: requests as the providers expect them, and what their answers mean."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
import respx

from mailer.delivery import Fault, Kind, Transport
from mailer.errors import TransportError
from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient
from mailer.rendering import Renderer
from mailer.transports.http import open_http_client
from mailer.transports.mailgun import MailgunTransport
from mailer.transports.postmark import PostmarkTransport
from mailer.transports.sendgrid import SendGridTransport
from mailer.transports.sendmail import SendmailTransport

from .processes import job

URL = "https://mail.example/send"
A, G, D = Kind.TRY_AGAIN, Kind.GIVE_UP, Kind.DELIVERED
KINDS: dict[str, Callable[..., Transport]] = {
    "postmark": PostmarkTransport,
    "mailgun": MailgunTransport,
    "sendgrid": SendGridTransport,
}
EACH = pytest.mark.parametrize("transport", KINDS, indirect=True)
GOOD = {"postmark": {"ErrorCode": 0}}


def mail(to: str = "jane@example.org") -> Mail:
    renderer = Renderer(Sender.of('The "Broker"', parse_recipient("login@broker.example")))
    return renderer.render(job(to, id="job"), now=0)


@pytest.fixture
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    async with open_http_client(5) as client:
        yield KINDS[request.param](client, url=URL, token="the-token")


@EACH
@respx.mock
async def test_request_is_as_the_provider_expects_it(transport: Transport) -> None:
    route = respx.post(URL).respond(200, json=GOOD.get(transport.name, {}))
    sent = mail()
    assert (await transport.send(sent, bound=5)).kind is D
    request = route.calls.last.request
    assert request.headers["User-Agent"].startswith("portier.io/")
    {"postmark": check_postmark, "mailgun": check_mailgun, "sendgrid": check_sendgrid}[transport.name](request, sent)


HEADERS = {
    "Auto-Submitted": "auto-generated",
    "X-Auto-Response-Suppress": "All",
    "List-Id": "Authentication <auth.broker.example>",
    "Content-Language": "en",
    "Message-ID": "<job@broker.example>",
}
FROM = '"The \\"Broker\\"" <login@broker.example>'


def check_postmark(request: httpx.Request, sent: Mail) -> None:
    assert request.headers["X-Postmark-Server-Token"] == "the-token"
    assert request.headers["Accept"] == request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == {
        "From": FROM,
        "To": "jane@example.org",
        "Subject": sent.subject,
        "HtmlBody": sent.html,
        "TextBody": sent.text,
        "Headers": [{"Name": name, "Value": value} for name, value in HEADERS.items()],
    }


def check_mailgun(request: httpx.Request, sent: Mail) -> None:
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"api:the-token").decode()
    form = {name: value for name, [value] in parse_qs(request.content.decode(), keep_blank_values=True).items()}
    assert form == {
        "from": FROM,
        "to": "jane@example.org",
        "subject": sent.subject,
        "html": sent.html,
        "text": sent.text,
        **{f"h:{name}": value for name, value in HEADERS.items()},
    }


def check_sendgrid(request: httpx.Request, sent: Mail) -> None:
    assert request.headers["Authorization"] == "Bearer the-token"
    assert json.loads(request.content) == {
        "from": {"name": 'The "Broker"', "email": "login@broker.example"},
        "personalizations": [{"to": [{"email": "jane@example.org"}]}],
        "subject": sent.subject,
        "content": [{"type": "text/plain", "value": sent.text}, {"type": "text/html", "value": sent.html}],
        "headers": HEADERS,
    }


@EACH
@respx.mock
@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [(429, A, Fault.TRANSPORT), (503, A, Fault.TRANSPORT), (401, G, Fault.TRANSPORT), (302, A, Fault.TRANSPORT)],
)
async def test_refusal_of_a_provider_is_judged(transport: Transport, status: int, kind: Kind, fault: Fault) -> None:
    respx.post(URL).respond(status, headers={"Retry-After": "7", "Location": "https://elsewhere.example"}, text="jane")
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason.split()[:2]) == (kind, fault, ["http", str(status)])
    assert verdict.retry_after == (7 if kind is A else 0)


@pytest.mark.parametrize("transport", ["postmark"], indirect=True)
@respx.mock
@pytest.mark.parametrize(
    ("status", "body", "kind", "fault"),
    [
        (422, {"ErrorCode": 406}, G, Fault.RECIPIENT), (422, {"ErrorCode": 300}, G, Fault.RECIPIENT),
        (422, {"ErrorCode": 405}, G, Fault.TRANSPORT), (200, {"ErrorCode": 406}, G, Fault.RECIPIENT),
        (200, {}, G, Fault.TRANSPORT), (200, [], G, Fault.TRANSPORT), (500, {"ErrorCode": 0}, A, Fault.TRANSPORT),
    ],
)  # fmt: skip
async def test_error_codes_of_postmark_decide(
    transport: Transport, status: int, body: object, kind: Kind, fault: Fault
) -> None:
    respx.post(URL).respond(status, json=body)
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault) == (kind, fault)


@EACH
@respx.mock
@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        (httpx.ConnectError("no"), Fault.TRANSPORT),
        (httpx.ReadError("gone"), Fault.UNKNOWN),
        (httpx.RemoteProtocolError("gone"), Fault.UNKNOWN),
    ],
)
async def test_broken_request_is_tried_again(transport: Transport, failure: Exception, fault: Fault) -> None:
    respx.post(URL).mock(side_effect=failure)
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault) == (A, fault)


@EACH
async def test_address_that_no_api_takes_is_rejected_at_once(transport: Transport) -> None:
    assert (await transport.send(mail("björn@example.org"), bound=5)).reason == "smtputf8 not offered"


@EACH
@respx.mock
async def test_check_tells_whether_the_provider_can_be_reached(transport: Transport) -> None:
    route = respx.get("https://mail.example/").respond(404)
    assert "reachable" in await transport.check()
    route.mock(side_effect=httpx.ConnectError("no route"))
    with pytest.raises(TransportError, match=transport.name):
        await transport.check()


def program(folder: Path, script: str) -> str:
    path = folder / "sendmail"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_sendmail_is_called_without_a_shell_and_fed_the_mail(tmp_path: Path) -> None:
    out = tmp_path / "out"
    transport = SendmailTransport(program(tmp_path, f'echo "$@" > {out}; cat >> {out}'))
    assert (await transport.send(mail("a@example.org"), bound=5)).kind is D
    first, _, content = out.read_text().partition("\n")
    assert first == "-i -f login@broker.example -- a@example.org"
    assert content.startswith("From: ")
    assert "\r" not in content
    assert await transport.check() == f"{transport._command} can be run"


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [(67, G, Fault.RECIPIENT), (75, A, Fault.TRANSPORT), (1, A, Fault.TRANSPORT), (78, A, Fault.TRANSPORT)],
)
async def test_exit_status_of_sendmail_is_judged(tmp_path: Path, status: int, kind: Kind, fault: Fault) -> None:
    transport = SendmailTransport(program(tmp_path, f"cat > /dev/null; exit {status}"))
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason) == (kind, fault, f"exit {status}")


async def test_sendmail_that_hangs_is_killed_and_one_that_is_missing_told(tmp_path: Path) -> None:
    hanging = SendmailTransport(program(tmp_path, "exec sleep 60"))
    verdict = await hanging.send(mail(), bound=0.3)
    assert (verdict.kind, verdict.fault) == (A, Fault.UNKNOWN)
    missing = SendmailTransport(str(tmp_path / "nothing"))
    assert (await missing.send(mail(), bound=5)).fault is Fault.TRANSPORT
    with pytest.raises(TransportError, match="sendmail_command"):
        await missing.check()

"""The mail APIs against a real server: requests octet for octet, and every answer that their providers document."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote_plus

import httpx
import pytest
import trustme

from mailer.errors import REFUSED_PAUSE, TransportError
from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient
from mailer.rendering import Renderer
from mailer.transports.http import HttpTransport, open_http_client
from mailer.transports.mailgun import MailgunTransport
from mailer.transports.postmark import PostmarkTransport
from mailer.transports.sendgrid import SendGridTransport
from mailer.transports.ses import SesTransport, sign
from mailer.transports.webhook import WebhookTransport
from mailer.verdicts import Fault, Kind

from .api_server import CLOSE, HANG, ApiServer, answer
from .processes import job

A, G, D = Kind.TRY_AGAIN, Kind.GIVE_UP, Kind.DELIVERED
RECIPIENT, MAIL, TRANSPORT, UNKNOWN = Fault.RECIPIENT, Fault.MAIL, Fault.TRANSPORT, Fault.UNKNOWN
SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
AUTHORITY = trustme.CA()

Make = Callable[[httpx.AsyncClient, str], HttpTransport]
KINDS: dict[str, Make] = {
    "postmark": lambda client, url: PostmarkTransport(client, url=f"{url}/email", token="the-token"),
    "mailgun": lambda client, url: MailgunTransport(client, url=f"{url}/v3/mg.example/messages", token="the-token"),
    "sendgrid": lambda client, url: SendGridTransport(client, url=f"{url}/v3/mail/send", token="the-token"),
    "ses": lambda client, url: SesTransport(client, url=url, token="the-token", key_id="AKID", region="eu-central-1"),
    "webhook": lambda client, url: WebhookTransport(client, url=f"{url}/mails", token=f"whsec_{SECRET}"),
}
GOOD = {
    "postmark": answer(200, {"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a"}),
    "mailgun": answer(200, {"id": "<x@mg.example>", "message": "Queued. Thank you."}),
    "sendgrid": answer(202, b""),
    "ses": answer(200, {"MessageId": "0100"}),
    "webhook": answer(204, b""),
}
EACH = pytest.mark.parametrize("transport", KINDS, indirect=True)
ALL_HEADERS = {
    "Auto-Submitted": "auto-generated",
    "X-Auto-Response-Suppress": "All",
    "List-Id": "Authentication <auth.broker.example>",
    "Content-Language": "en",
}


@functools.cache
def mail(to: str = "jane@example.org") -> Mail:
    renderer = Renderer(Sender.of('The "Broker"', parse_recipient("login@broker.example")))
    return renderer.render(job(to, id="job"), now=0)


@functools.cache
def context(name: str, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    return tls


@functools.cache
def trusting() -> ssl.SSLContext:
    tls = ssl.create_default_context()
    AUTHORITY.configure_trust(tls)
    return tls


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(tls=context("localhost")) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_http_client(5, verify=trusting()) as opened:
        yield opened


@pytest.fixture
def transport(request: pytest.FixtureRequest, server: ApiServer, client: httpx.AsyncClient) -> HttpTransport:
    server.answers = lambda _request: GOOD[request.param]
    return KINDS[request.param](client, server.url)


# --- requests ---


def as_json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def named(headers: dict[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in headers.items()]


def expected(kind: str, sent: Mail) -> tuple[str, dict[str, str], bytes]:
    """The request line, the headers that matter, and the body, as the provider documents them."""
    sender = '"The \\"Broker\\"" <login@broker.example>'
    headers = {**dict(sent.headers), "Message-ID": "<job@broker.example>"}
    text, html = sent.text, sent.html
    if kind == "postmark":
        body = as_json(
            {"From": sender, "To": "jane@example.org", "Subject": sent.subject, "HtmlBody": html, "TextBody": text,
             "Headers": named(headers)}
        )  # fmt: skip
        wanted = {
            "X-Postmark-Server-Token": "the-token",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        return "POST /email HTTP/1.1", wanted, body
    if kind == "mailgun":
        form = {"from": sender, "to": "jane@example.org", "subject": sent.subject, "html": html, "text": text,
                **{f"h:{name}": value for name, value in headers.items()}}  # fmt: skip
        body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in form.items()).encode()
        wanted = {"Authorization": "Basic " + base64.b64encode(b"api:the-token").decode(),
                  "Content-Type": "application/x-www-form-urlencoded"}  # fmt: skip
        return "POST /v3/mg.example/messages HTTP/1.1", wanted, body
    if kind == "sendgrid":
        body = as_json(
            {"from": {"name": 'The "Broker"', "email": "login@broker.example"},
             "personalizations": [{"to": [{"email": "jane@example.org"}]}], "subject": sent.subject,
             "content": [{"type": "text/plain", "value": text}, {"type": "text/html", "value": html}],
             "headers": headers}
        )  # fmt: skip
        return (
            "POST /v3/mail/send HTTP/1.1",
            {"Authorization": "Bearer the-token", "Content-Type": "application/json"},
            body,
        )
    if kind == "ses":
        del headers["Message-ID"]
        part = {"Charset": "UTF-8"}
        content = {"Subject": {"Data": sent.subject, **part},
                   "Body": {"Text": {"Data": text, **part}, "Html": {"Data": html, **part}},
                   "Headers": named(headers)}  # fmt: skip
        body = as_json({"FromEmailAddress": sender, "Destination": {"ToAddresses": ["jane@example.org"]},
                        "Content": {"Simple": content}})  # fmt: skip
        return "POST /v2/email/outbound-emails HTTP/1.1", {"Content-Type": "application/json"}, body
    fields = {"from": {"name": 'The "Broker"', "email": "login@broker.example"}, "to": "jane@example.org",
              "subject": sent.subject, "text": text, "html": html, "headers": headers}  # fmt: skip
    body = json.dumps(fields, ensure_ascii=False).encode()
    return "POST /mails HTTP/1.1", {"Content-Type": "application/json", "webhook-id": "job"}, body


@EACH
async def test_request_is_octet_for_octet_what_the_provider_documents(
    transport: HttpTransport, server: ApiServer
) -> None:
    sent = mail()
    assert dict(sent.headers).items() >= ALL_HEADERS.items()
    assert (await transport.send(sent, bound=5)).kind is D
    [request] = server.received
    line, headers, body = expected(transport.name, sent)
    assert request.line == line
    assert request.headers.items() >= headers.items()
    assert request.body == body
    assert request.headers["User-Agent"].startswith("portier.io/")


@EACH
async def test_one_connection_serves_many_mails(transport: HttpTransport, server: ApiServer) -> None:
    for _ in range(10):
        assert (await transport.send(mail(), bound=5)).kind is D
    assert server.connections == 1


async def test_webhook_is_signed_as_standard_webhooks_says(server: ApiServer, client: httpx.AsyncClient) -> None:
    await KINDS["webhook"](client, server.url).send(mail(), bound=5)
    [request] = server.received
    stamp = request.headers["webhook-timestamp"]
    signed = b"job." + stamp.encode() + b"." + request.body
    signature = base64.b64encode(hmac.digest(base64.b64decode(SECRET), signed, hashlib.sha256)).decode()
    assert request.headers["webhook-signature"] == f"v1,{signature}"
    assert abs(int(stamp) - time.time()) < 60


@pytest.mark.parametrize(
    ("method", "headers", "body", "signed", "signature"),
    [
        ("GET", {}, b"", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", {}, b"", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", {"Content-Type": "application/x-www-form-urlencoded"}, b"Param1=value1",
         "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ],
    ids=["get-vanilla", "post-vanilla", "post-x-www-form-urlencoded"],
)  # fmt: skip
def test_signature_is_that_of_the_official_test_suite(
    method: str, headers: dict[str, str], body: bytes, signed: str, signature: str
) -> None:
    request = httpx.Request(method, "https://example.amazonaws.com/", headers=headers, content=body)
    now = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    sign(request, key_id="AKIDEXAMPLE", secret=secret, region="us-east-1", service="service", now=now)
    assert request.headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={signed}, Signature={signature}"
    )


# --- answers ---


@EACH
@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [
        (400, G, MAIL), (413, G, MAIL), (401, A, TRANSPORT), (402, A, TRANSPORT), (403, A, TRANSPORT),
        (404, A, TRANSPORT), (405, A, TRANSPORT), (408, A, TRANSPORT), (429, A, TRANSPORT), (500, A, TRANSPORT),
        (502, A, TRANSPORT), (503, A, TRANSPORT), (504, A, UNKNOWN), (302, A, TRANSPORT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"<html>jane", b"null", b'{"errors": 7, "Message": []}'], ids=str)
async def test_status_is_judged_whatever_the_body(
    transport: HttpTransport, server: ApiServer, status: int, kind: Kind, fault: Fault, body: bytes
) -> None:
    server.answers = lambda _request: answer(status, body, Location="https://elsewhere.example", Retry_After="7")
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason) == (kind, fault, f"http {status}")
    assert verdict.retry_after == (7 if (kind, fault) == (A, TRANSPORT) else 0)
    assert len(server.received) == 1


def code(number: int, message: str = "") -> dict[str, object]:
    return {"ErrorCode": number, "Message": message}


def at(field: str | None, message: str = "") -> dict[str, object]:
    return {"errors": [{"message": message, "field": field, "help": None}]}


def said(message: str) -> dict[str, object]:
    return {"message": message}


DOCUMENTED: list[tuple[str, int, object, str, Kind, Fault, str]] = [
    ("postmark", 401, code(10, "Bad or missing API token."), "", A, TRANSPORT, "http 401 code 10"),
    ("postmark", 422, code(100, "Maintenance"), "", A, TRANSPORT, "http 422 code 100"),
    ("postmark", 422, code(300, "Invalid 'To' address: 'jane'."), "", G, RECIPIENT, "http 422 code 300"),
    ("postmark", 422, code(300, "Invalid 'From' address."), "", A, TRANSPORT, "http 422 code 300"),
    ("postmark", 422, code(400, "Sender signature not found"), "", A, TRANSPORT, "http 422 code 400"),
    ("postmark", 422, code(401, "Sender signature not confirmed"), "", A, TRANSPORT, "http 422 code 401"),
    ("postmark", 422, code(402, "Invalid JSON"), "", G, MAIL, "http 422 code 402"),
    ("postmark", 422, code(403, "Invalid fields"), "", G, MAIL, "http 422 code 403"),
    ("postmark", 422, code(405, "Not allowed to send"), "", A, TRANSPORT, "http 422 code 405"),
    ("postmark", 422, code(406, "Inactive recipient"), "", G, RECIPIENT, "http 422 code 406"),
    ("postmark", 422, code(409, "JSON required"), "", G, MAIL, "http 422 code 409"),
    ("postmark", 422, code(411, "Forbidden attachment"), "", G, MAIL, "http 422 code 411"),
    ("postmark", 422, code(412, "Account is pending"), "", A, TRANSPORT, "http 422 code 412"),
    ("postmark", 422, code(413, "Account may not send"), "", A, TRANSPORT, "http 422 code 413"),
    ("postmark", 429, code(429), "", A, TRANSPORT, "http 429"),
    ("postmark", 500, code(0), "", A, TRANSPORT, "http 500"),
    ("postmark", 200, code(406), "", G, RECIPIENT, "http 200 code 406"),
    ("postmark", 200, {}, "", A, UNKNOWN, "http 200 without ErrorCode"),
    ("postmark", 200, {"ErrorCode": "0"}, "", A, UNKNOWN, "http 200 without ErrorCode"),
    ("mailgun", 400, said("'to' parameter is not a valid address. please check documentation"), "", G, RECIPIENT,
     "http 400 to"),
    ("mailgun", 400, said("to parameter is missing"), "", G, RECIPIENT, "http 400 to"),
    ("mailgun", 400, said("'from' parameter is not a valid address."), "", A, TRANSPORT, "http 400 from"),
    ("mailgun", 400, said("Need at least one of 'text' or 'html' parameters specified"), "", G, MAIL, "http 400"),
    ("mailgun", 401, b"Forbidden", "", A, TRANSPORT, "http 401"),
    ("mailgun", 403, said("Domain sandbox1.mailgun.org is not allowed to send"), "", A, TRANSPORT, "http 403"),
    ("mailgun", 404, said("Domain not found: mg.example"), "", A, TRANSPORT, "http 404"),
    ("sendgrid", 400, at("personalizations.0.to.0.email", "Does not contain a valid address."), "", G, RECIPIENT,
     "http 400 personalizations"),
    ("sendgrid", 400, at("from.email", "The from email does not contain a valid address."), "", A, TRANSPORT,
     "http 400 from"),
    ("sendgrid", 400, at("content"), "", G, MAIL, "http 400"),
    ("sendgrid", 400, at(None, "Bad Request"), "", G, MAIL, "http 400"),
    ("sendgrid", 401, at(None, "Maximum credits exceeded"), "", A, TRANSPORT, "http 401"),
    ("sendgrid", 403, at("from", "The from address does not match a verified Sender Identity."), "", A, TRANSPORT,
     "http 403"),
    ("ses", 400, said("bad"), "MessageRejected", G, MAIL, "http 400 MessageRejected"),
    ("ses", 400, said("Email address is not verified."), "MessageRejected:http://internal.amazon.com/", A, TRANSPORT,
     "http 400 MessageRejected"),
    ("ses", 400, said("x"), "BadRequestException", G, MAIL, "http 400 BadRequestException"),
    ("ses", 400, said("x"), "AccountSuspendedException", A, TRANSPORT, "http 400 AccountSuspendedException"),
    ("ses", 400, said("x"), "SendingPausedException", A, TRANSPORT, "http 400 SendingPausedException"),
    ("ses", 400, said("x"), "MailFromDomainNotVerifiedException", A, TRANSPORT,
     "http 400 MailFromDomainNotVerifiedException"),
    ("ses", 400, said("x"), "LimitExceededException", A, TRANSPORT, "http 400 LimitExceededException"),
    ("ses", 404, said("x"), "NotFoundException", A, TRANSPORT, "http 404 NotFoundException"),
    ("ses", 429, said("x"), "TooManyRequestsException", A, TRANSPORT, "http 429 TooManyRequestsException"),
    ("ses", 403, said("x"), "InvalidSignatureException", A, TRANSPORT, "http 403 InvalidSignatureException"),
    ("ses", 500, said("x"), "InternalFailure", A, TRANSPORT, "http 500"),
    ("ses", 400, said("x"), "Jane@example.org", G, MAIL, "http 400"),
    ("webhook", 422, b"", "", G, RECIPIENT, "http 422 refused"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "body", "error", "what", "fault", "reason"), DOCUMENTED)
async def test_documented_error_is_judged(
    server: ApiServer, client: httpx.AsyncClient, kind: str, status: int, body: object, error: str, what: Kind,
    fault: Fault, reason: str,
) -> None:  # fmt: skip
    server.answers = lambda _request: answer(status, body, x_amzn_ErrorType=error)
    verdict = await KINDS[kind](client, server.url).send(mail(), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason) == (what, fault, reason)


@pytest.mark.parametrize("transport", ["mailgun"], indirect=True)
@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "30"}, 30, 30),
        ({"Retry_After": format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)}, 6000, 7200),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        ({"Retry_After": "soon"}, 0, 0),
        ({"Retry_After": "-5"}, 0, 0),
        ({"Retry_After": "9" * 400}, 1, 1e8),
        ({"X_RateLimit_Reset": str(int(time.time()) + 7200)}, 6000, 7200),
        ({"X_RateLimit_Reset": str(int(time.time() + 7200) * 1000)}, 6000, 7200),
        ({"X_RateLimit_Reset": "nan"}, 0, 0),
        ({"X_RateLimit_Reset": "9" * 400}, 0, 0),
        ({}, 0, 0),
    ],
)
async def test_wait_that_a_provider_asks_for_is_read(
    transport: HttpTransport, server: ApiServer, headers: dict[str, str], least: float, most: float
) -> None:
    server.answers = lambda _request: answer(429, **headers)
    assert least <= (await transport.send(mail(), bound=5)).retry_after <= most


# --- slow, broken and hostile servers ---


@EACH
@pytest.mark.parametrize("reply", [CLOSE, HANG, b"what is this\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=str)
async def test_answer_that_never_comes_leaves_the_outcome_unknown(
    transport: HttpTransport, server: ApiServer, reply: bytes | None
) -> None:
    server.answers = lambda _request: reply
    verdict = await transport.send(mail(), bound=2 if reply is HANG else 10)  # connecting takes some of it
    assert (verdict.kind, verdict.fault) == (A, UNKNOWN)
    assert verdict.reason.startswith("request ")


@EACH
async def test_answer_of_3_megabytes_is_not_read_to_its_end(transport: HttpTransport, server: ApiServer) -> None:
    server.answers = lambda _request: answer(200, b'{"ErrorCode": 0, "x": "' + b"a" * 3_000_000 + b'"}')
    verdict = await transport.send(mail(), bound=10)
    assert (verdict.kind, verdict.fault) == ((A, UNKNOWN) if transport.name == "postmark" else (D, Fault.NONE))


@EACH
@pytest.mark.parametrize(("status", "kind"), [(200, D), (503, A)])
async def test_status_counts_where_the_body_only_drips(
    transport: HttpTransport, server: ApiServer, status: int, kind: Kind
) -> None:
    server.drip = 0.1
    server.answers = lambda _request: answer(status, {"ErrorCode": 0, "x": "a" * 100})
    verdict = await transport.send(mail(), bound=0.5)
    if transport.name == "postmark" and status == 200:
        assert (verdict.kind, verdict.fault) == (A, UNKNOWN)
    else:
        assert (verdict.kind, verdict.reason) == (kind, f"http {status}")


@EACH
async def test_answer_may_take_longer_than_the_way_to_it(transport: HttpTransport, server: ApiServer) -> None:
    server.drip = 0.05
    server.answers = lambda _request: answer(200, {"ErrorCode": 0})
    assert (await transport.send(mail(), bound=0.4, reply=60)).kind is D
    server.answers = lambda _request: HANG
    assert (await transport.send(mail(), bound=60, reply=0.2)).fault is UNKNOWN


@EACH
async def test_body_that_breaks_off_does_not_unsend_a_mail(transport: HttpTransport, server: ApiServer) -> None:
    server.answers = lambda _request: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"
    server.closes = True
    verdict = await transport.send(mail(), bound=5)
    assert verdict.kind is (A if transport.name == "postmark" else D)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", ["other name", "unknown authority", "no TLS", "nobody there"])
async def test_provider_that_cannot_be_reached_safely_gets_no_mail(
    client: httpx.AsyncClient, unused_tcp_port: int, kind: str, problem: str
) -> None:
    authority = trustme.CA() if problem == "unknown authority" else AUTHORITY
    tls = (
        None if problem == "no TLS" else context("other.example" if problem == "other name" else "localhost", authority)
    )
    async with ApiServer(tls=tls) as server:
        port = unused_tcp_port if problem == "nobody there" else server.port
        transport = KINDS[kind](client, f"https://localhost:{port}")
        verdict = await transport.send(mail(), bound=5)
        assert (verdict.kind, verdict.fault, verdict.reason) == (A, TRANSPORT, "connect ConnectError")
        with pytest.raises(TransportError, match=f"{kind}: ConnectError"):
            await transport.check()
        assert not server.received


@EACH
async def test_provider_that_accepts_connections_and_hangs_is_given_up_for_the_next(
    transport: HttpTransport, client: httpx.AsyncClient
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel accepts, and nobody ever answers
        port = listening.getsockname()[1]
        hanging = KINDS[transport.name](client, f"https://localhost:{port}")
        verdict = await hanging.send(mail(), bound=60, silence=0.1)
        assert (verdict.kind, verdict.fault, verdict.for_all) == (A, TRANSPORT, True)
        verdict = await hanging.send(mail(), bound=0.1, silence=0.1)  # its deadline is near
        assert (verdict.kind, verdict.fault, verdict.for_all) == (A, TRANSPORT, False)


@EACH
async def test_international_address_is_left_to_transports_that_take_it(
    transport: HttpTransport, server: ApiServer
) -> None:
    verdict = await transport.send(mail("björn@example.org"), bound=5)
    if transport.name == "webhook":
        assert verdict.kind is D
        assert json.loads(server.received[0].body)["to"] == "björn@example.org"
    else:
        assert (verdict.kind, verdict.fault, verdict.reason) == (G, MAIL, "smtputf8 not offered")
        assert not server.received


# --- checks ---

CHECKS: list[tuple[str, bytes, str | None]] = [
    ("postmark", answer(200, {"ID": 1, "Name": "Staging"}), "token accepted"),
    ("postmark", answer(401, code(10, "Bad token")), None),
    ("postmark", answer(500, code(0, "Ill")), None),
    ("mailgun", answer(400, said("from parameter is missing")), "token accepted"),
    ("mailgun", answer(401, b"Forbidden"), None),
    ("mailgun", answer(404, said("Domain not found: mg.example")), None),
    ("sendgrid", answer(200, {"scopes": ["mail.send"]}), "token accepted"),
    ("sendgrid", answer(200, {"scopes": ["stats.read"]}), None),
    ("sendgrid", answer(401, at(None)), None),
    ("ses", answer(200, {"SendingEnabled": True, "ProductionAccessEnabled": True}), "token accepted"),
    ("ses", answer(200, {"SendingEnabled": True, "ProductionAccessEnabled": False}), "sandbox"),
    ("ses", answer(200, {"SendingEnabled": False}), None),
    ("ses", answer(403, said("no"), x_amzn_ErrorType="AccessDeniedException"), "ses:GetAccount"),
    ("ses", answer(403, said("no"), x_amzn_ErrorType="InvalidSignatureException"), None),
    ("webhook", answer(405, b""), "reachable"),
    ("webhook", answer(502, b""), None),
]
PROBES = {
    "postmark": "GET /server HTTP/1.1",
    "mailgun": "POST /v3/mg.example/messages HTTP/1.1",
    "sendgrid": "GET /v3/scopes HTTP/1.1",
    "ses": "GET /v2/email/account HTTP/1.1",
    "webhook": "HEAD /mails HTTP/1.1",
}


@pytest.mark.parametrize(("kind", "reply", "found"), CHECKS)
async def test_check_asks_the_provider_whether_it_knows_us_without_sending(
    server: ApiServer, client: httpx.AsyncClient, kind: str, reply: bytes, found: str | None
) -> None:
    server.answers = lambda _request: reply
    transport = KINDS[kind](client, server.url)
    if found is None:
        with pytest.raises(TransportError, match=f"^{kind}: ") as caught:
            await transport.check()
        assert "the-token" not in str(caught.value)
    else:
        said_so = await transport.check()
        assert said_so.startswith("localhost, TLSv1.3, certificate for localhost, ")
        assert found in said_so
    [request] = server.received
    assert (request.line, request.body) == (PROBES[kind], b"")


@EACH
@pytest.mark.parametrize(
    ("reply", "pause"),
    [(answer(401), REFUSED_PAUSE), (answer(429, Retry_After="7"), 7), (answer(503), 0)],
    ids=["refused", "too many", "ill"],
)
async def test_failed_check_tells_how_soon_the_next_is_wanted(
    transport: HttpTransport, server: ApiServer, reply: bytes, pause: float
) -> None:
    if transport.name == "webhook" and pause:
        return  # whoever answers there is reachable
    server.answers = lambda _request: reply
    with pytest.raises(TransportError) as caught:
        await transport.check()
    assert caught.value.pause == pause

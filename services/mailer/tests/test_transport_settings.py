"""What each setting of the transports does, seen from the servers that mails are sent to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trustme
from prometheus_client import CollectorRegistry

from mailer.composition import make_delivery, open_renderer, open_transports
from mailer.delivery import Delivery
from mailer.mails import Mail
from mailer.metrics import Metrics
from mailer.routes import Transport
from mailer.settings import Settings
from mailer.transports.ses import sign
from mailer.verdicts import Kind, Verdict
from service_kit.settings import load

from .api_server import ApiServer, Request, answer
from .processes import job
from .smtp_server import Rules, SmtpServer, only

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def settings_of(**given: object) -> Settings:
    environ = {"redis_url": "redis://unused", "from_address": "login@broker.example", **given}
    variables = {f"BROKER_{name.upper()}": str(value) for name, value in environ.items()}
    return load(Settings, service="mailer", environ=variables).settings


@contextlib.asynccontextmanager
async def opened(**given: object) -> AsyncIterator[tuple[Delivery, Sequence[Transport]]]:
    settings = settings_of(**given)
    async with open_transports(settings) as transports:
        yield make_delivery(settings, transports, Metrics(CollectorRegistry())), transports


def mail(**given: object) -> Mail:
    return open_renderer(settings_of(smtp_server="unused", **given)).render(job("jane@example.org"), now=0)


async def send(**given: object) -> Verdict:
    async with opened(**given) as (delivery, _):
        return await delivery.attempt(mail(), bound=5, within=60)


async def request_of(**given: object) -> Request:
    """The request that a provider gets; `{url}` stands for its address."""
    async with ApiServer(answers=lambda _request: answer(200, {"ErrorCode": 0})) as server:
        verdict = await send(**{name: str(value).replace("{url}", server.url) for name, value in given.items()})
        assert verdict.kind is Kind.DELIVERED
        [request] = server.received
        return request


@pytest.mark.setting("from_name", "from_address")
async def test_mails_come_from_the_configured_sender() -> None:
    async with SmtpServer() as server, opened(smtp_server=f"127.0.0.1:{server.port}") as (delivery, _):
        sent = mail(from_name="Shop Login", from_address="no-reply@shop.example")
        await delivery.attempt(sent, bound=5, within=60)
        [received] = server.received
        assert received.sender == "no-reply@shop.example"
        assert received.message["From"] == "Shop Login <no-reply@shop.example>"


@pytest.mark.setting("mail_transports")
async def test_transports_are_tried_in_the_order_that_is_set() -> None:
    async with SmtpServer() as smtp, ApiServer(answers=lambda _request: answer(200, {"ErrorCode": 0})) as postmark:
        both = {"smtp_server": f"127.0.0.1:{smtp.port}", "postmark_token": "t", "postmark_api": f"{postmark.url}/email"}
        assert (await send(**both, mail_transports="postmark smtp")).transport == "postmark"
        assert (await send(**both, mail_transports="smtp postmark")).transport == "smtp"
        smtp.rules.answer = only("greeting", "421 4.3.2 closed")
        assert (await send(**both, mail_transports="smtp postmark")).transport == "postmark"


@pytest.mark.setting("mail_transport_limits")
async def test_transport_is_asked_for_no_more_than_it_may_be() -> None:
    async with SmtpServer() as server:
        server.rules.delay = 0.02
        address = f"127.0.0.1:{server.port}"
        async with opened(smtp_server=address, mail_transport_limits="smtp:3") as (delivery, _):
            sending = (delivery.attempt(mail(), bound=20, within=60) for _ in range(15))
            assert {verdict.kind for verdict in await asyncio.gather(*sending)} == {Kind.DELIVERED}
        assert server.most_open == 3
        async with opened(smtp_server=address, mail_transport_limits="smtp:1/h") as (delivery, _):
            verdicts = [await delivery.attempt(mail(), bound=5, within=60) for _ in range(2)]
        assert [verdict.reason for verdict in verdicts] == ["content 250 2.0.0", "busy"]


@pytest.mark.setting("smtp_username", "smtp_password")
async def test_mail_server_is_shown_the_credentials() -> None:
    async with SmtpServer(Rules(auth=("user", "right"))) as server:
        address = f"127.0.0.1:{server.port}"
        assert (await send(smtp_server=address, smtp_username="user", smtp_password="right")).kind is Kind.DELIVERED
        assert (await send(smtp_server=address, smtp_username="user", smtp_password="wrong")).reason == "auth 535 5.7.8"


@pytest.mark.setting("smtp_security", "smtp_ca_file", "smtp_client_cert", "smtp_client_key")
async def test_tls_is_spoken_as_configured(tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    own = authority.issue_cert("mailer.example")
    files = {name: tmp_path / name for name in ("smtp_ca_file", "smtp_client_cert", "smtp_client_key")}
    authority.cert_pem.write_to_path(files["smtp_ca_file"])
    own.cert_chain_pems[0].write_to_path(files["smtp_client_cert"])
    own.private_key_pem.write_to_path(files["smtp_client_key"])
    async with SmtpServer(Rules(tls=tls)) as server:
        address = f"localhost:{server.port}"
        assert (await send(smtp_server=address, smtp_security="starttls", **files)).kind is Kind.DELIVERED
        assert (await send(smtp_server=address, smtp_security="off")).kind is Kind.DELIVERED
        assert [received.tls for received in server.received] == [True, False]
        assert (await send(smtp_server=address, smtp_security="starttls")).reason.startswith("tls certificate refused")
        without_own = await send(smtp_server=address, smtp_security="starttls", smtp_ca_file=files["smtp_ca_file"])
        assert without_own.kind is Kind.TRY_AGAIN


@pytest.mark.setting("sendmail_command")
async def test_mail_goes_through_the_configured_program(tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/out\n")
    program.chmod(0o755)
    assert (await send(sendmail_command=program)).kind is Kind.DELIVERED
    assert "To: <jane@example.org>" in (tmp_path / "out").read_text()


@pytest.mark.setting("postmark_token", "postmark_api")
async def test_postmark_gets_the_token_at_its_address() -> None:
    request = await request_of(postmark_token="secret", postmark_api="{url}/other/email")
    assert request.line == "POST /other/email HTTP/1.1"
    assert request.headers["X-Postmark-Server-Token"] == "secret"


@pytest.mark.setting("mailgun_token", "mailgun_domain", "mailgun_api")
async def test_mailgun_gets_the_token_at_the_domains_address() -> None:
    request = await request_of(mailgun_token="secret", mailgun_domain="mg.example", mailgun_api="{url}/eu/v3")
    assert request.line == "POST /eu/v3/mg.example/messages HTTP/1.1"
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"api:secret").decode()


@pytest.mark.setting("sendgrid_token", "sendgrid_api")
async def test_sendgrid_gets_the_token_at_its_address() -> None:
    request = await request_of(sendgrid_token="secret", sendgrid_api="{url}/v3/mail/send")
    assert request.line == "POST /v3/mail/send HTTP/1.1"
    assert request.headers["Authorization"] == "Bearer secret"


@pytest.mark.setting("ses_access_key_id", "ses_secret_access_key", "ses_region", "ses_api")
async def test_amazon_gets_requests_signed_for_the_region() -> None:
    given = {"ses_access_key_id": "AKID", "ses_secret_access_key": "secret", "ses_region": "eu-west-3"}
    request = await request_of(**given, ses_api="{url}")
    again = httpx.Request("POST", f"http://{request.headers['Host']}/v2/email/outbound-emails", content=request.body)
    again.headers["Content-Type"] = "application/json"
    now = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    sign(again, key_id="AKID", secret="secret", region="eu-west-3", service="ses", now=now)
    assert request.headers["Authorization"] == again.headers["Authorization"]
    async with opened(**given) as (_, [transport]):
        assert transport._url == "https://email.eu-west-3.amazonaws.com"  # type: ignore[attr-defined]


@pytest.mark.setting("mail_webhook_url", "mail_webhook_secret")
async def test_webhook_gets_the_mail_signed() -> None:
    request = await request_of(mail_webhook_url="{url}/mails", mail_webhook_secret=SECRET)
    assert request.line == "POST /mails HTTP/1.1"
    assert json.loads(request.body)["to"] == "jane@example.org"
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    digest = hmac.digest(base64.b64decode(SECRET), signed, "sha256")
    assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"

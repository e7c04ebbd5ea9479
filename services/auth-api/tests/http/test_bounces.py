"""Bounces and complaints as the providers report them, and what the next login for the address is told."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from auth_api.bounces.mailgun import Mailgun
from auth_api.bounces.postmark import Postmark
from auth_api.bounces.refusals import MOST, WINDOW, Refusals
from auth_api.bounces.reports import Posted, Provider
from auth_api.bounces.sendgrid import SendGrid
from auth_api.errors import TooManyAttemptsError, WebhookMalformedError, WebhookRefusedError
from shared_store.store import Store
from shared_store.suppressions import Suppressions

if TYPE_CHECKING:
    from tests.http.conftest import Broker, FormFields, MakeBroker, MakeRequest

SECRET = "the-secret-of-postmarks-calls-32ch"
SIGNING_KEY = "key-of-mailgun"
SENDGRID_KEY = generate_private_key(SECP256R1())
SUPPRESSION_KEY = "a key of at least thirty-two characters"
SETTINGS = {
    "suppression_key": SUPPRESSION_KEY,
    "postmark_webhook_secret": SECRET,
    "mailgun_webhook_key": SIGNING_KEY,
    "sendgrid_webhook_key": b64encode(
        SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode(),
}
JANE = "jane@example.com"


@dataclass(frozen=True)
class Call:
    """A webhook call as a provider makes it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


def postmark(type_: str = "HardBounce", address: str = JANE, record: str = "Bounce", secret: str = SECRET) -> Call:
    body = {
        "RecordType": record, "MessageStream": "outbound", "ID": secrets.randbits(40), "Type": type_, "TypeCode": 1,
        "Name": "Hard bounce", "Tag": "", "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483", "Metadata": {},
        "ServerID": 23, "Description": "The server was unable to deliver your message.",
        "Details": "smtp;550 5.1.1 The email account that you tried to reach does not exist.", "Email": address,
        "From": "login@broker.example", "BouncedAt": "2026-11-05T16:33:54.9070259Z", "DumpAvailable": True,
        "Inactive": True, "CanActivate": True, "Subject": "Finish logging in", "Content": "Return-Path: …",
    }  # fmt: skip
    authorization = f"Basic {b64encode(f'postmark:{secret}'.encode()).decode()}"
    headers = {"authorization": authorization, "user-agent": "Postmark", "content-type": "application/json"}
    return Call("/webhooks/postmark", headers, json.dumps(body).encode())


def mailgun(
    event: str = "failed", severity: str = "permanent", reason: str = "bounce", status: str = "5.1.1",
    *, address: str = JANE, timestamp: float | None = None, key: str = SIGNING_KEY,
) -> Call:  # fmt: skip
    when = str(int(time.time() if timestamp is None else timestamp))
    token = secrets.token_hex(25)
    signature = hmac.new(key.encode(), (when + token).encode(), "sha256").hexdigest()
    data = {
        "event": event, "severity": severity, "reason": reason, "id": "G9Bn5sl1TC6nu79C8C0bwg", "log-level": "error",
        "timestamp": 1521233195.375624, "recipient": address, "recipient-domain": "example.com", "tags": [],
        "delivery-status": {"code": 550, "enhanced-code": status, "attempt-no": 1, "message": "No such mailbox"},
        "message": {"headers": {"to": address, "message-id": "x@broker.example", "subject": "Finish"}, "size": 111},
        "flags": {"is-routed": False, "is-authenticated": True, "is-system-test": False}, "user-variables": {},
    }  # fmt: skip
    body = {"signature": {"timestamp": when, "token": token, "signature": signature}, "event-data": data}
    return Call("/webhooks/mailgun", {"content-type": "application/json"}, json.dumps(body).encode())


def sendgrid(*events: dict[str, object], timestamp: float | None = None, tail: bytes = b"\r\n") -> Call:
    when = str(int(time.time() if timestamp is None else timestamp))
    common = {"email": JANE, "timestamp": 1513299569, "smtp-id": "<x@broker.example>", "sg_event_id": "e", "tls": 0}
    body = json.dumps([common | event for event in events]).encode() + tail
    signature = b64encode(SENDGRID_KEY.sign(when.encode() + body, ECDSA(SHA256()))).decode()
    headers = {
        "content-type": "application/json;charset=utf-8",
        "x-twilio-email-event-webhook-signature": signature,
        "x-twilio-email-event-webhook-timestamp": when,
    }
    return Call("/webhooks/sendgrid", headers, body)


def bounced(**changes: object) -> dict[str, object]:
    reason = "500 unknown recipient"
    return {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": reason, "category": ["c"], **changes}


async def post(broker: Broker, call: Call, **more: str) -> httpx.Response:
    return await broker.browser.post(call.path, headers={**call.headers, **more}, content=call.body)


@pytest.fixture
async def broker(make_broker: MakeBroker) -> AsyncIterator[Broker]:
    async with make_broker(**SETTINGS) as made:
        yield made


async def is_suppressed(store: Store, address: str = JANE) -> bool:
    return await store.run(Suppressions(SUPPRESSION_KEY, life=60).look(address))


COUNTING: dict[str, Callable[[], Call]] = {
    "postmark hard bounce": postmark,
    "postmark bad address": lambda: postmark("BadEmailAddress"),
    "postmark complaint": lambda: postmark("SpamComplaint", record="SpamComplaint"),
    "postmark complaint among bounces": lambda: postmark("SpamComplaint"),
    "mailgun bounce": mailgun,
    "mailgun bounce with Microsoft's code": lambda: mailgun(status="5.4.1"),
    "mailgun known bounce": lambda: mailgun(reason="suppress-bounce", status=""),
    "mailgun complaint": lambda: mailgun("complained", "", "", ""),
    "sendgrid bounce": lambda: sendgrid(bounced()),
    "sendgrid without line end": lambda: sendgrid(bounced(), tail=b""),
    "sendgrid dropped": lambda: sendgrid({"event": "dropped", "reason": "Bounced Address"}),
    "sendgrid dropped for what it knows": lambda: sendgrid({"event": "dropped", "reason": "Invalid"}),
    "sendgrid dropped after a complaint": lambda: sendgrid({"event": "dropped", "reason": "Spam Reporting Address"}),
    "mailgun known complaint": lambda: mailgun(reason="suppress-complaint", status=""),
    "sendgrid complaint": lambda: sendgrid({"event": "spamreport"}),
    "another spelling": lambda: postmark(address="Jane@EXAMPLE.com"),
}  # fmt: skip
NOT_COUNTING: dict[str, Callable[[], Call]] = {
    "postmark soft bounce": lambda: postmark("SoftBounce"),
    "postmark blocked": lambda: postmark("Blocked"),
    "postmark unsubscribed": lambda: postmark("Unsubscribe"),
    "postmark deactivated by hand": lambda: postmark("ManuallyDeactivated"),
    "postmark taken for spam by a server": lambda: postmark("SpamNotification"),
    "postmark change of a subscription": lambda: postmark(record="SubscriptionChange"),
    "postmark unknown type": lambda: postmark("Whatever"),
    "postmark delivery": lambda: postmark("HardBounce", record="Delivery"),
    "mailgun temporary": lambda: mailgun(severity="temporary"),
    "mailgun unsubscribed": lambda: mailgun("unsubscribed", "", "", ""),
    "mailgun known to be unsubscribed": lambda: mailgun(reason="suppress-unsubscribe", status=""),
    "mailgun too old": lambda: mailgun(reason="old"),
    "mailgun policy": lambda: mailgun(status="5.7.1"),
    "mailgun mailbox full": lambda: mailgun(status="5.2.2"),
    "mailgun delivered": lambda: mailgun("delivered"),
    "mailgun unknown event": lambda: mailgun("whatever"),
    "sendgrid blocked": lambda: sendgrid(bounced(type="blocked")),
    "sendgrid policy": lambda: sendgrid(bounced(status="5.7.26")),
    "sendgrid deferred": lambda: sendgrid({"event": "deferred", "response": "451"}),
    "sendgrid dropped for spam": lambda: sendgrid({"event": "dropped", "reason": "Spam Content"}),
    "sendgrid unsubscribed": lambda: sendgrid({"event": "unsubscribe"}),
    "sendgrid dropped since unsubscribed": lambda: sendgrid({"event": "dropped", "reason": "Unsubscribed Address"}),
    "sendgrid unknown event": lambda: sendgrid({"event": "whatever"}),
    "sendgrid empty batch": sendgrid,
}  # fmt: skip


@pytest.mark.setting("postmark_webhook_secret", "mailgun_webhook_key", "sendgrid_webhook_key", "suppression_key")
async def test_hard_bounce_or_complaint_keeps_the_next_mail_back(broker: Broker) -> None:
    for name, make in COUNTING.items():
        answer = await post(broker, make())
        assert (answer.status_code, answer.json()) == (200, {}), name
        page = await broker.authorize(login_hint="Jane@example.com")
        assert page.status_code == 400, name
        assert "Jane@example.com</bdi>" in page.text
        assert "came back or was refused" in page.text
        assert await broker.store.run(Suppressions(SUPPRESSION_KEY, life=60).lift(JANE)), name
    assert broker.postbox.mails == []
    await broker.begin(login_hint=JANE)


async def test_anything_else_is_taken_and_changes_nothing(broker: Broker) -> None:
    for name, make in NOT_COUNTING.items():
        assert (await post(broker, make())).status_code == 200, name
        assert not await is_suppressed(broker.store), name


async def test_postmark_may_bring_its_secret_in_the_url(broker: Broker) -> None:
    call = postmark()
    assert (await broker.browser.post(f"{call.path}/wrong", content=call.body)).status_code == 401
    assert not await is_suppressed(broker.store)
    assert (await broker.browser.post(f"{call.path}/{SECRET}", content=call.body)).status_code == 200
    assert await is_suppressed(broker.store)


async def test_batch_is_taken_event_by_event(broker: Broker) -> None:
    events = [bounced(email=f"p{number}@example.com") for number in range(900)]
    events[5:5] = [bounced(email="no address"), bounced(email=None), {"event": "open", "email": "open@example.com"}]
    assert (await post(broker, sendgrid(*events))).status_code == 200
    assert await is_suppressed(broker.store, "p0@example.com")
    assert await is_suppressed(broker.store, "p899@example.com")
    assert not await is_suppressed(broker.store, "open@example.com")


def changed(call: Call, before: bytes, after: bytes) -> Call:
    assert before in call.body
    return Call(call.path, call.headers, call.body.replace(before, after))


REFUSED: dict[str, Callable[[], Call]] = {
    "postmark wrong secret": lambda: postmark(secret="wrong"),
    "postmark no secret": lambda: Call("/webhooks/postmark", {}, postmark().body),
    "postmark bearer": lambda: Call("/webhooks/postmark", {"authorization": f"Bearer {SECRET}"}, postmark().body),
    "postmark broken base64": lambda: Call("/webhooks/postmark", {"authorization": "Basic ="}, postmark().body),
    "mailgun wrong key": lambda: mailgun(key="wrong"),
    "mailgun old": lambda: mailgun(timestamp=time.time() - 100_000),
    "mailgun ahead": lambda: mailgun(timestamp=time.time() + 10_000),
    "mailgun other time": lambda: changed(mailgun(timestamp=1), b'"timestamp": "1"', b'"timestamp": "2"'),
    "sendgrid changed body": lambda: changed(sendgrid(bounced()), b"jane", b"john"),
    "sendgrid old": lambda: sendgrid(bounced(), timestamp=time.time() - 100_000),
    "sendgrid no signature": lambda: Call("/webhooks/sendgrid", {}, sendgrid(bounced()).body),
    "sendgrid nonsense": lambda: Call(
        "/webhooks/sendgrid", {"x-twilio-email-event-webhook-signature": "!"}, sendgrid(bounced()).body
    ),
}


async def test_call_that_is_not_the_providers_is_refused(broker: Broker) -> None:
    for name, make in REFUSED.items():
        answer = await post(broker, make())
        assert (answer.status_code, answer.json()["error"]) == (401, "access_denied"), name
        assert not await broker.store.client.keys("suppressed:*"), name


MALFORMED: dict[str, Callable[[], Call]] = {
    "postmark": lambda: Call("/webhooks/postmark", postmark().headers, b"{"),
    "postmark list": lambda: Call("/webhooks/postmark", postmark().headers, b"[]"),
    "postmark not UTF-8": lambda: Call("/webhooks/postmark", postmark().headers, b'{"Email": "\xff"}'),
    "postmark deep": lambda: Call("/webhooks/postmark", postmark().headers, b"[" * 100_000),
    "mailgun": lambda: Call("/webhooks/mailgun", {}, b"token=x&signature=y"),
    "mailgun no signature": lambda: Call("/webhooks/mailgun", {}, b'{"event-data": {}}'),
    "mailgun other types": lambda: Call(
        "/webhooks/mailgun", {}, b'{"signature": {"timestamp": 1, "token": [], "signature": {}}, "event-data": {}}'
    ),
}


async def test_call_in_another_form_is_told(broker: Broker) -> None:
    for name, make in MALFORMED.items():
        answer = await post(broker, make())
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), name


async def test_signed_batch_with_something_else_in_it_is_told(broker: Broker) -> None:
    when = str(int(time.time()))
    for body in (b"{}", b"[1]", b"[", b'"x"'):
        signature = b64encode(SENDGRID_KEY.sign(when.encode() + body, ECDSA(SHA256()))).decode()
        headers = dict(sendgrid().headers) | {"x-twilio-email-event-webhook-signature": signature}
        headers["x-twilio-email-event-webhook-timestamp"] = when
        assert (await post(broker, Call("/webhooks/sendgrid", headers, body))).status_code == 400


async def test_huge_call_is_refused_before_it_is_read_to_its_end(broker: Broker) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    for provider in ("postmark", "mailgun", "sendgrid"):
        answer = await broker.browser.post(f"/webhooks/{provider}", content=endless())
        assert answer.status_code == 413


async def test_call_made_again_after_the_address_was_lifted_does_nothing(broker: Broker) -> None:
    suppressions = Suppressions(SUPPRESSION_KEY, life=60)
    for call in (postmark(), mailgun(), sendgrid(bounced())):
        assert (await post(broker, call)).status_code == 200
        assert await broker.store.run(suppressions.lift(JANE))
        assert (await post(broker, call)).status_code == 200
        assert not await is_suppressed(broker.store)
    assert (await post(broker, sendgrid(bounced(reason="again")))).status_code == 200
    assert await is_suppressed(broker.store)


async def test_network_of_many_refused_calls_is_told_to_come_again_unread_and_no_other(
    make_broker: MakeBroker,
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    async with make_broker(**SETTINGS, trusted_proxies="203.0.113.7", peer="203.0.113.7") as broker:
        for _ in range(MOST - 1):
            assert (await post(broker, mailgun(key="wrong"), **{"x-forwarded-for": "2001:db8::1"})).status_code == 401
        headers = {"x-forwarded-for": "2001:db8::2"}
        assert (await broker.browser.post("/webhooks/sendgrid", content=endless(), headers=headers)).status_code == 413
        refused = await broker.browser.post("/webhooks/sendgrid", content=endless(), headers=headers)
        assert (refused.status_code, 0 < int(refused.headers["retry-after"]) <= WINDOW) == (429, True)
        assert (await post(broker, mailgun(), **headers)).status_code == 429
        assert (await post(broker, mailgun(), **{"x-forwarded-for": "2001:db8:0:1::1"})).status_code == 200


async def test_burst_of_a_provider_is_taken_whole(broker: Broker) -> None:
    calls = [mailgun(address=f"p{number}@example.com") for number in range(5 * MOST)]
    answers = await asyncio.gather(*(post(broker, call) for call in calls))
    assert {answer.status_code for answer in answers} == {200}


def test_network_may_come_again_after_the_window() -> None:
    clock = 1000.0
    refusals = Refusals(now=lambda: clock)
    for _ in range(MOST):
        refusals.check("network")
        refusals.count("network")
    with pytest.raises(TooManyAttemptsError):
        refusals.check("network")
    clock += WINDOW
    refusals.check("network")


def test_more_networks_than_are_counted_one_by_one_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auth_api.bounces.refusals.MOST_NETWORKS", 2)
    refusals = Refusals()
    for number in range(MOST + 2):
        refusals.check(f"network-{number}")
        refusals.count(f"network-{number}")
    with pytest.raises(TooManyAttemptsError):
        refusals.check("another")
    refusals.check("network-0")


async def test_provider_that_is_not_configured_is_not_there(make_broker: MakeBroker) -> None:
    async with make_broker() as broker:
        for call in (postmark(), mailgun(), sendgrid(bounced()), Call("/webhooks/other", {}, b"{}")):
            assert (await post(broker, call)).status_code == 404
        await broker.begin()


async def test_program_is_told_and_nothing_goes_back_to_the_site(
    broker: Broker, authorization_request: MakeRequest
) -> None:
    await post(broker, postmark())
    asked = {"login_hint": JANE, "response_mode": "fragment"}
    answer = await broker.browser.get(
        "/auth", params=authorization_request(**asked), headers={"accept": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert "came back" in answer.json()["error_description"]
    assert (await broker.authorize(**asked)).status_code == 400


async def test_person_goes_on_with_another_address(broker: Broker, form_fields: FormFields) -> None:
    await post(broker, postmark())
    page = await broker.authorize(login_hint=JANE)
    fields = form_fields(page.text)
    assert (fields["_login_hint"], "login_hint" in fields) == (JANE, False)
    form = await broker.browser.post("/auth", data=fields)
    assert f'value="{JANE}"' in form.text
    sent = await broker.browser.post("/auth", data={**form_fields(form.text), "login_hint": "john@example.com"})
    assert sent.status_code == 200
    assert (await broker.postbox.mail()).to == "john@example.com"


async def test_bounce_that_comes_while_the_person_waits_is_told_when_they_ask_again(make_broker: MakeBroker) -> None:
    async with make_broker(**SETTINGS, resend_delay="0") as broker:
        session, _ = await broker.begin(login_hint=JANE)
        await post(broker, postmark())
        page = await broker.browser.post("/resend", data={"session": session})
        assert (page.status_code, "came back" in page.text) == (400, True)
        assert len(broker.postbox.mails) == 1


async def test_telling_counts_as_an_attempt_and_costs_no_mail(make_broker: MakeBroker) -> None:
    """Who tries addresses is held up by the limits as if each try were a login; the person's mails are not used up."""
    async with make_broker(**SETTINGS, limits="ip:3/h", mails_per_address="1") as broker:
        await post(broker, postmark())
        for _ in range(3):
            assert (await broker.authorize(login_hint=JANE)).status_code == 400
        assert (await broker.authorize(login_hint=JANE)).status_code == 429


@pytest.mark.setting("suppression_ttl")
async def test_address_is_mailed_again_once_its_time_is_over(make_broker: MakeBroker) -> None:
    async with make_broker(**SETTINGS, suppression_ttl="60") as broker:
        await post(broker, postmark())
        [key] = await broker.store.client.keys("suppressed:*")
        assert 0 < await broker.store.client.ttl(key) <= 60
        await broker.store.client.delete(key)
        await broker.begin(login_hint=JANE)


async def test_bounces_are_counted_and_logged_without_their_address(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    await post(broker, postmark())
    await post(broker, mailgun(severity="temporary"))
    await post(broker, mailgun(key="wrong"))
    metrics = (await broker.browser.get("/metrics")).text
    assert 'portier_mail_events_total{event="hard_bounce",provider="postmark"} 1.0' in metrics
    assert 'portier_mail_events_total{event="other",provider="mailgun"} 1.0' in metrics
    assert 'portier_mail_events_total{event="refused",provider="mailgun"} 1.0' in metrics
    written = "".join(capsys.readouterr())
    assert "mail_came_back" in written
    assert "jane" not in written


async def test_page_speaks_the_persons_language(broker: Broker, authorization_request: MakeRequest) -> None:
    await post(broker, postmark())
    for tag in ("de", "nl", "fr", "fr-CA"):
        params = authorization_request(login_hint=JANE)
        told = await broker.browser.get("/auth", params=params, headers={"accept-language": tag})
        assert f'lang="{tag}"' in told.text
        assert "came back" not in told.text


PROVIDERS: list[Provider] = [Postmark(SECRET), Mailgun(SIGNING_KEY), SendGrid(SETTINGS["sendgrid_webhook_key"])]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["signature", "event-data", "event", "email", "Email", "recipient", "type", "Type"])
            | st.sampled_from(["reason", "RecordType", "delivery-status", "severity", "timestamp", "token"]),
            inner | st.sampled_from(["bounce", "failed", "permanent", "dropped", "Bounce", "spamreport", JANE]),
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(), headers=st.booleans())
def test_whatever_is_posted_is_read_or_refused(body: bytes, headers: bool) -> None:
    when = str(int(time.time()))
    signed = b64encode(SENDGRID_KEY.sign(when.encode() + body, ECDSA(SHA256()))).decode()
    given: dict[str, Any] = dict(postmark().headers)
    given |= {"x-twilio-email-event-webhook-signature": signed, "x-twilio-email-event-webhook-timestamp": when}
    for provider in PROVIDERS:
        with contextlib.suppress(WebhookRefusedError, WebhookMalformedError):
            provider.read(Posted(given if headers else {}, body), now=time.time())


@given(event=JSON, severity=JSON)
def test_whatever_mailgun_signs_is_read_or_refused(event: object, severity: object) -> None:
    values = json.loads(mailgun().body)
    values["event-data"] |= {"delivery-status": event, "reason": severity}
    report = PROVIDERS[1].read(Posted({}, json.dumps(values).encode()), now=time.time())
    assert len(report.came_back) + report.others == 1

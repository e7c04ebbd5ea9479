"""The authorization endpoint over HTTP: which failure goes where, and what a login looks like when it begins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest

from shared_store.mail_queue import Outcome

if TYPE_CHECKING:
    from tests.http.conftest import Broker, FormFields, MakeBroker, MakeRequest

SITE = "https://site.example"


async def test_login_by_mail_shows_the_code_page_and_queues_the_mail(broker: Broker, form_fields: FormFields) -> None:
    answer = await broker.authorize()
    job = await broker.postbox.mail()
    assert answer.status_code == 200
    assert "<title>Portier – Confirm your address</title>" in answer.text
    fields = form_fields(answer.text)
    assert fields["device_ok"] == "1"
    assert job.link == f"http://localhost:3333/confirm?session={fields['session']}&code={job.code}"
    assert job.to == "person@example.com"
    assert job.site == SITE
    assert "Person@Example.com" in answer.text
    assert job.code not in answer.text
    assert "taking longer" not in answer.text


async def test_page_comes_without_the_mails_outcome_and_says_that_it_may_be_late(make_broker: MakeBroker) -> None:
    async with make_broker(mail_wait="0") as broker:
        broker.postbox.outcome = None
        answer = await broker.authorize()
    assert answer.status_code == 200
    assert "taking longer" in answer.text


async def test_person_whose_address_cannot_be_mailed_is_offered_another(
    broker: Broker, form_fields: FormFields
) -> None:
    broker.postbox.outcome = Outcome.REJECTED
    answer = await broker.authorize(response_mode="query")
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "does not take our email" in answer.text
    assert "have it mailed again" not in answer.text
    fields = form_fields(answer.text)
    assert (fields["_login_hint"], fields["state"]) == ("Person@Example.com", "s-1")
    assert "login_hint" not in fields
    asked = await broker.browser.post("/auth", data=fields)
    assert 'value="Person@Example.com"' in asked.text


async def test_program_whose_address_cannot_be_mailed_is_told_so(
    broker: Broker, authorization_request: MakeRequest
) -> None:
    broker.postbox.outcome = Outcome.REJECTED
    answer = await broker.browser.post("/auth", data=authorization_request(), headers={"accept": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": "invalid_request",
        "error_description": "login_hint is not a valid email address: no mail can be sent to it",
        "reference": None,
    }


async def test_address_that_is_refused_when_it_is_mailed_again_is_told_alike(make_broker: MakeBroker) -> None:
    async with make_broker(resend_delay="0") as broker:
        session, _ = await broker.begin()
        broker.postbox.outcome = Outcome.REJECTED
        answer = await broker.browser.post("/resend", data={"session": session})
        assert answer.status_code == 400
        assert "does not take our email" in answer.text


async def test_json_client_gets_the_session(broker: Broker) -> None:
    params = {"client_id": SITE, "redirect_uri": f"{SITE}/cb", "response_type": "code", "scope": "openid"}
    answer = await broker.browser.post(
        "/auth", data={**params, "login_hint": "a@b.example"}, headers={"accept": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json()["result"] == "verification_code_sent"
    assert len(answer.json()["session"]) == 43


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"redirect_uri": None}, "missing request parameter redirect_uri"),
        ({"client_id": None}, "missing request parameter client_id"),
        ({"response_type": None}, "missing request parameter response_type"),
        ({"response_errors": "maybe"}, "response_errors must be true or false"),
        ({"response_type": "token"}, "unsupported response_type, must be id_token or code"),
        ({"response_mode": "web_message"}, "unsupported response_mode, must be fragment, form_post or query"),
        ({"redirect_uri": "javascript:alert(1)"}, "redirect_uri"),
        ({"redirect_uri": f"{SITE}@evil.example/"}, "redirect_uri"),
        ({"client_id": "https://other.example"}, "the client_id must be the origin of the redirect_uri"),
    ],
)
async def test_faults_up_to_the_redirect_uri_are_shown_here(
    broker: Broker, changes: dict[str, str | None], text: str
) -> None:
    answer = await broker.authorize(**changes)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert text in answer.text.replace("&#39;", "'")
    assert "<title>Portier – Error</title>" in answer.text


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"request": "x"}, "request_not_supported", ""),
        ({"request_uri": "https://a.example/"}, "request_uri_not_supported", ""),
        ({"registration": "{}"}, "registration_not_supported", ""),
        ({"nonce": None}, "invalid_request", "nonce"),
        ({"scope": "email"}, "invalid_request", "unsupported scope, must contain 'openid'"),
        ({"id_token_signing_alg": "none"}, "invalid_request", ""),
        ({"login_hint": "nobody"}, "invalid_request", "login_hint is not a valid email address: "),
        ({"login_hint": "jane%evil.example@example.com"}, "invalid_request", "no mail can be sent"),
        ({"login_hint": None, "prompt": "none"}, "login_required", ""),
        ({"prompt": "none"}, "interaction_required", ""),
        ({"prompt": "none login"}, "invalid_request", ""),
        ({"code_challenge": "x"}, "invalid_request", ""),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, "invalid_request", ""),
    ],
)
@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
async def test_faults_after_the_redirect_uri_go_back_to_the_site(
    broker: Broker, form_fields: FormFields, changes: dict[str, str | None], error: str, text: str, mode: str
) -> None:
    answer = await broker.authorize(**{"response_mode": mode, **changes})
    if mode == "form_post":
        assert answer.status_code == 200
        assert f'action="{SITE}/callback"' in answer.text
        sent = form_fields(answer.text)
    else:
        assert answer.status_code == 303
        url = urlsplit(answer.headers["location"])
        assert f"{url.scheme}://{url.netloc}{url.path}" == f"{SITE}/callback"
        sent = dict(parse_qsl(url.query if mode == "query" else url.fragment))
    assert sent["error"] == error
    assert text in sent["error_description"]
    assert sent["state"] == "s-1"
    assert sent["iss"] == "http://localhost:3333"


@pytest.mark.parametrize(
    "address", ["jane%evil.example@b.example", "evil.example!jane@b.example", '"jane@evil.example"@b.example']
)
async def test_address_that_mail_servers_may_route_elsewhere_is_sent_no_mail(broker: Broker, address: str) -> None:
    answer = await broker.authorize(login_hint=address, response_mode="query")
    assert "error=invalid_request" in answer.headers["location"]
    await broker.authorize(login_hint="next@example.com")
    assert (await broker.postbox.mail()).to == "next@example.com"
    assert len(broker.postbox.mails) == 1


async def test_response_errors_false_keeps_errors_here(broker: Broker) -> None:
    answer = await broker.authorize(response_errors="false", scope="email")
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert SITE not in answer.headers["content-security-policy"]


@pytest.mark.setting("allowed_origins")
async def test_origin_that_is_not_allowed_is_never_sent_anything(make_broker: MakeBroker) -> None:
    async with make_broker(allowed_origins="https://other.example") as broker:
        answer = await broker.authorize(scope="email", response_mode="query")
    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_without_login_hint_the_person_is_asked(broker: Broker, form_fields: FormFields) -> None:
    answer = await broker.authorize(login_hint=None, _login_hint="old@example.com", _other="x")
    assert answer.status_code == 200
    fields = form_fields(answer.text)
    assert fields["state"] == "s-1"
    assert not any(name.startswith("_") for name in fields)
    assert 'value="old@example.com"' in answer.text
    asked = await broker.browser.post("/auth", data={**fields, "login_hint": "new@example.com"})
    assert asked.status_code == 200
    assert (await broker.postbox.mail()).to == "new@example.com"


async def test_doubled_parameter_is_refused(broker: Broker, authorization_request: MakeRequest) -> None:
    query = urlencode([*authorization_request(response_mode="query").items(), ("nonce", "again")])
    answer = await broker.browser.get("/auth", params=query)
    assert parse_qs(urlsplit(answer.headers["location"]).query)["error"] == ["invalid_request"]


@pytest.mark.setting("limits")
async def test_limit_exceeded_answers_429_with_retry_after_and_counts_per_address(make_broker: MakeBroker) -> None:
    async with make_broker(limits="ip:email:2/15m") as broker:
        assert (await broker.authorize()).status_code == 200
        assert (await broker.authorize()).status_code == 200
        page = await broker.authorize()
        other = await broker.authorize(login_hint="other@example.com")
        program = await broker.browser.get(
            "/auth",
            params=dict(parse_qsl(str(page.request.url.query, "ascii"))),
            headers={"accept": "application/json"},
        )
    assert page.status_code == 429
    assert 0 < int(page.headers["retry-after"]) <= 900
    assert "location" not in page.headers
    assert other.status_code == 200
    assert program.status_code == 429
    assert program.json()["error"] == "access_denied"
    assert program.json()["error_description"] == "too many requests"


async def test_full_queue_answers_503_with_retry_after(make_broker: MakeBroker) -> None:
    async with make_broker(mail_queue_max="1", mail_wait="0") as broker:
        broker.postbox.outcome = None
        answers = [await broker.authorize() for _ in range(3)]
        await asyncio.sleep(0)
    assert {answer.status_code for answer in answers} <= {200, 503}


async def test_login_that_a_full_queue_refused_counts_on_no_limit(make_broker: MakeBroker) -> None:
    """Its page tries again by itself: else it would soon tell the person of a quarter of an hour to wait."""
    async with make_broker(mail_queue_max="1", mails_per_address="1", limits="ip:email:decr_complete:1/15m") as broker:
        await broker.store.client.zadd("mail:{mail}:delayed", {"another": 4e12})
        for _ in range(4):
            assert (await broker.authorize()).status_code == 503
            await all_is_refunded(broker)
        await broker.store.client.delete("mail:{mail}:delayed")
        assert (await broker.authorize()).status_code == 200
        assert (await broker.authorize()).status_code == 429


async def all_is_refunded(broker: Broker) -> None:
    client = broker.store.client
    async with asyncio.timeout(10):
        while any([await client.get(key) not in (None, b"0") for key in await client.keys("limit:*")]):
            await asyncio.sleep(0.01)


async def test_state_absent_stays_absent(broker: Broker, form_fields: FormFields) -> None:
    answer = await broker.authorize(state=None, scope="email")
    assert "state" not in form_fields(answer.text)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405_with_allow(broker: Broker, method: str) -> None:
    answer = await broker.browser.request(method, "/auth")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_head_begins_no_login(broker: Broker, authorization_request: MakeRequest) -> None:
    answer = await broker.browser.head("/auth", params=authorization_request())
    assert answer.status_code == 200
    assert await broker.store.client.keys("login:*") == []


async def test_body_that_is_no_form_or_too_long_is_refused(broker: Broker) -> None:
    as_json = await broker.browser.post("/auth", json={"a": 1})
    too_long = await broker.browser.post("/auth", data={"state": "x" * 70_000})
    not_text = await broker.browser.post(
        "/auth", content=b"state=%ff\xfe", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert [as_json.status_code, too_long.status_code, not_text.status_code] == [400, 413, 400]


@pytest.mark.parametrize("changes", [{"response_type": "token"}, {"scope": "email", "response_errors": "false"}, {}])
async def test_ui_locales_choose_the_language_before_accept_language(
    broker: Broker, changes: dict[str, str | None]
) -> None:
    broker.browser.headers["accept-language"] = "fr"
    assert '<html lang="de"' in (await broker.authorize(ui_locales="xx de", **changes)).text
    assert '<html lang="fr"' in (await broker.authorize(ui_locales="xx", **changes)).text


async def test_errors_on_their_way_back_speak_the_sites_language(broker: Broker) -> None:
    answer = await broker.authorize(ui_locales="nl", scope="email", response_mode="form_post")
    assert '<html lang="nl"' in answer.text


async def test_mail_sent_again_speaks_the_language_of_the_first(make_broker: MakeBroker) -> None:
    async with make_broker(resend_delay="0") as broker:
        session, _ = await broker.begin(ui_locales="nl")
        page = await broker.browser.post("/resend", data={"session": session})
        assert '<html lang="nl"' in page.text
        assert [mail.locale for mail in broker.postbox.mails] == ["nl", "nl"]
        cancelled = await broker.browser.post("/cancel", data={"session": session})
    assert '<html lang="nl"' in cancelled.text

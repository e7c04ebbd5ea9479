"""Codes and links over HTTP: what consumes a login, what does not, and what every other thing is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

if TYPE_CHECKING:
    from tests.http.conftest import Broker, FormFields, MakeBroker, Verified

SITE = "https://site.example"
JSON = {"accept": "application/json"}


def sent_back(answer: httpx.Response, part: str = "query") -> dict[str, str]:
    return dict(parse_qsl(getattr(urlsplit(answer.headers["location"]), part)))


async def test_right_code_gives_the_site_a_verifiable_id_token_by_form_post(
    broker: Broker, form_fields: FormFields, verified: Verified
) -> None:
    session, code = await broker.begin()
    answer = await broker.confirm(session, f" {code[:6].upper()} {code[6:]} ")
    assert answer.status_code == 200
    assert f'action="{SITE}/callback"' in answer.text
    assert answer.headers["referrer-policy"] == "strict-origin"
    assert f"form-action {SITE}" in answer.headers["content-security-policy"]
    fields = form_fields(answer.text)
    assert list(fields) == ["state", "id_token", "iss"]
    claims = verified(fields["id_token"])
    assert claims["sub"] == claims["email"] == "person@example.com"
    assert claims["email_original"] == "Person@Example.com"
    assert claims["email_verified"] is True
    assert claims["nonce"] == "n-1"
    assert int(str(claims["exp"])) == int(str(claims["iat"])) + 600
    assert claims["auth_time"] == claims["iat"]


@pytest.mark.parametrize("mode", ["query", "fragment"])
async def test_right_code_redirects_in_the_mode_asked_for(broker: Broker, verified: Verified, mode: str) -> None:
    session, code = await broker.begin(response_mode=mode)
    answer = await broker.confirm(session, code)
    assert answer.status_code == 303
    fields = sent_back(answer, mode)
    assert fields["state"] == "s-1"
    verified(fields["id_token"])


async def test_json_client_gets_token_and_state(broker: Broker, verified: Verified) -> None:
    session, code = await broker.begin()
    answer = await broker.browser.post(
        "/confirm", data={"session": session, "code": code, "device_ok": "1"}, headers=JSON
    )
    assert set(answer.json()) == {"id_token", "state"}
    verified(answer.json()["id_token"])


async def test_login_cookie_is_cleared_and_a_second_confirmation_finds_no_session(broker: Broker) -> None:
    session, code = await broker.begin()
    assert len(broker.browser.cookies) == 1
    await broker.confirm(session, code)
    assert not broker.browser.cookies
    again = await broker.confirm(session, code)
    assert again.status_code == 400
    assert ">The session has expired.<" in again.text
    assert 'class="head"' in again.text


@pytest.mark.parametrize("session", ["", "x", "A" * 43, "A" * 44, "é" * 43])
async def test_session_that_is_none_answers_400_wherever_it_comes(broker: Broker, session: str) -> None:
    for answer in (
        await broker.confirm(session, "abcdefabcdef"),
        await broker.browser.get("/confirm", params={"session": session, "code": "abcdefabcdef"}),
        await broker.browser.post("/resend", data={"session": session}),
        await broker.browser.post("/cancel", data={"session": session}),
    ):
        assert answer.status_code == 400
        assert "location" not in answer.headers


async def test_missing_parameter_is_told(broker: Broker) -> None:
    answer = await broker.browser.post("/confirm", data={"session": "A" * 43}, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"] == "temporarily_unavailable"
    assert answer.json()["error_description"] == "missing request parameter code"


async def test_wrong_code_can_be_mended_until_the_guesses_are_used_up(broker: Broker, form_fields: FormFields) -> None:
    session, code = await broker.begin()
    for left in (4, 3, 2, 1):
        wrong = await broker.confirm(session, "wrong")
        assert wrong.status_code == 403
        assert form_fields(wrong.text)["session"] == session
        assert ("one more try" if left == 1 else f"{left} more tries") in wrong.text
    assert (await broker.browser.post("/confirm", data={"session": session, "code": "no"}, headers=JSON)).json() == {
        "result": "incorrect_code"
    }
    assert (await broker.confirm(session, code)).status_code == 400


async def test_link_in_the_same_browser_offers_a_form_that_submits_itself(
    broker: Broker, form_fields: FormFields
) -> None:
    session, code = await broker.begin()
    page = await broker.browser.get("/confirm", params={"session": session, "code": code})
    assert page.status_code == 200
    assert form_fields(page.text) == {"session": session, "code": code, "device_ok": "1"}
    assert "submit" in page.text
    assert "<script src=" in page.text


async def test_link_in_another_browser_shows_site_and_code_and_never_submits_itself(
    broker: Broker, form_fields: FormFields
) -> None:
    session, code = await broker.begin()
    page = await broker.new_browser().get("/confirm", params={"session": session, "code": code})
    assert page.status_code == 200
    assert f"{code[:6]} {code[6:]}" in page.text.replace("\u00a0", " ").replace("</span> <span>", " ")
    assert SITE in page.text
    assert "submit.js" not in page.text
    assert "data-submit" not in page.text
    assert form_fields(page.text)["device_ok"] == "1"


async def test_get_and_head_of_the_link_consume_nothing(broker: Broker) -> None:
    session, code = await broker.begin()
    link = {"session": session, "code": code}
    for _ in range(20):
        assert (await broker.browser.get("/confirm", params=link)).status_code == 200
        assert (await broker.browser.head("/confirm", params=link)).status_code == 200
        told = await broker.browser.get("/confirm", params=link, headers=JSON)
        assert (told.status_code, told.json()) == (403, {"result": "unverified_device"})
    assert (await broker.confirm(session, code)).status_code == 200


async def test_wrong_code_in_a_link_counts_as_a_guess_but_head_does_not(broker: Broker) -> None:
    session, _ = await broker.begin()
    link = {"session": session, "code": "wrong"}
    for _ in range(10):
        await broker.browser.head("/confirm", params=link)
    answers = [(await broker.browser.get("/confirm", params=link)).status_code for _ in range(6)]
    assert answers == [403, 403, 403, 403, 403, 400]


async def test_post_without_proof_of_the_device_consumes_nothing(broker: Broker) -> None:
    session, code = await broker.begin()
    stranger = broker.new_browser()
    told = await stranger.post("/confirm", data={"session": session, "code": code}, headers=JSON)
    assert (told.status_code, told.json()) == (403, {"result": "unverified_device"})
    own = await broker.browser.post("/confirm", data={"session": session, "code": code})
    assert own.status_code == 200
    assert "id_token" in own.text


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
async def test_post_of_another_sites_page_completes_no_login(broker: Broker, origin: str) -> None:
    session, code = await broker.begin()
    victim, filled_in = broker.new_browser(), {"session": session, "code": code, "device_ok": "1"}
    asked = await victim.post("/confirm", data=filled_in, headers={"sec-fetch-site": origin})
    assert asked.status_code == 200
    assert "other browser or on another device" in asked.text or "in another browser" in asked.text
    assert "id_token" not in asked.text
    done = await victim.post("/confirm", data=filled_in, headers={"sec-fetch-site": "same-origin"})
    assert "id_token" in done.text


@pytest.mark.setting("device_cookie_ttl")
async def test_without_cookies_by_configuration_the_form_field_alone_counts(make_broker: MakeBroker) -> None:
    async with make_broker(device_cookie_ttl="-1") as broker:
        session, code = await broker.begin()
        assert not broker.browser.cookies
        assert "set-cookie" not in (await broker.authorize()).headers
        assert (await broker.confirm(session, code)).status_code == 200


@pytest.mark.setting("device_cookie_ttl")
async def test_cookie_on_https_is_bound_to_host(make_broker: MakeBroker) -> None:
    async with make_broker(public_url="https://login.example", device_cookie_ttl="60") as broker:
        answer = await broker.browser.get(
            "https://login.example/auth",
            params={
                "client_id": SITE,
                "redirect_uri": SITE,
                "response_type": "code",
                "scope": "openid",
                "login_hint": "a@b.example",
            },
        )
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-login-")
    assert cookie.endswith("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.setting("resend_delay")
async def test_resend_mails_the_same_code_after_the_delay_to_the_same_browser_alone(make_broker: MakeBroker) -> None:
    async with make_broker(resend_delay="0") as broker:
        session, code = await broker.begin()
        again = await broker.browser.post("/resend", data={"session": session})
        stranger = await broker.new_browser().post("/resend", data={"session": session})
        assert again.status_code == 200
        assert "sent again" in again.text
        assert stranger.status_code == 400
        assert [mail.code for mail in broker.postbox.mails] == [code, code]
        assert broker.postbox.mails[0].id != broker.postbox.mails[1].id
        assert (await broker.confirm(session, code)).status_code == 200


async def test_resend_before_the_delay_sends_nothing_and_says_how_long(broker: Broker) -> None:
    session, _ = await broker.begin()
    answer = await broker.browser.post("/resend", data={"session": session})
    assert answer.status_code == 200
    assert 'data-wait="30"' in answer.text or 'data-wait="29"' in answer.text
    assert len(broker.postbox.mails) == 1


async def test_resend_is_bounded_for_one_login(make_broker: MakeBroker) -> None:
    async with make_broker(resend_delay="0") as broker:
        session, _ = await broker.begin()
        for _ in range(6):
            assert (await broker.browser.post("/resend", data={"session": session})).status_code == 200
        assert len(broker.postbox.mails) == 4


async def test_cancel_tells_the_site_and_ends_the_login(broker: Broker, form_fields: FormFields) -> None:
    session, code = await broker.begin()
    stranger = await broker.new_browser().post("/cancel", data={"session": session})
    assert stranger.status_code == 400
    answer = await broker.browser.post("/cancel", data={"session": session})
    fields = form_fields(answer.text)
    assert fields["error"] == "access_denied"
    assert fields["state"] == "s-1"
    assert (await broker.confirm(session, code)).status_code == 400


async def test_cancel_for_a_site_that_wants_no_errors_ends_on_a_page_that_leads_back_to_it(broker: Broker) -> None:
    session, _ = await broker.begin(response_errors="false")
    answer = await broker.browser.post("/cancel", data={"session": session})
    assert answer.status_code == 200
    assert f'class="button" href="{SITE}' in answer.text


async def test_completed_login_gives_its_attempts_back(make_broker: MakeBroker) -> None:
    async with make_broker(limits="email:decr_complete:1/15m") as broker:
        for _ in range(3):
            assert (await broker.authorize()).status_code == 200
            job = await broker.postbox.mail()
            broker.postbox.mails.clear()
            session = dict(parse_qsl(urlsplit(job.link).query))["session"]
            assert (await broker.confirm(session, job.code)).status_code == 200
            async with asyncio.timeout(5):
                while await broker.store.client.keys("limit:*"):
                    await asyncio.sleep(0.01)
        await broker.authorize()
        assert (await broker.authorize()).status_code == 429


async def test_one_of_300_concurrent_confirmations_succeeds(broker: Broker) -> None:
    session, code = await broker.begin()
    answers = await asyncio.gather(*(broker.confirm(session, code) for _ in range(300)))
    assert sorted({answer.status_code for answer in answers}) == [200, 400]
    assert sum("id_token" in answer.text for answer in answers) == 1


async def test_without_a_signing_key_the_code_is_not_used_up(make_broker: MakeBroker) -> None:
    async with make_broker(keys=False) as broker:
        session, code = await broker.begin()
        answer = await broker.confirm(session, code)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert (await broker.browser.get("/confirm", params={"session": session, "code": code})).status_code == 200

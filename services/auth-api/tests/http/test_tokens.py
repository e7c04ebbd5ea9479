"""The token endpoint and userinfo over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, urlsplit

import pytest
from structlog.testing import capture_logs

from service_kit.logs import short_id

if TYPE_CHECKING:
    from tests.http.conftest import Broker, MakeBroker, Verified

SITE = "https://site.example"
CALLBACK = f"{SITE}/callback"
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


async def code_of(broker: Broker, **changes: str | None) -> str:
    session, code = await broker.begin(response_type="code", response_mode="query", nonce=None, **changes)
    broker.postbox.mails.clear()
    answer = await broker.confirm(session, code)
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]


def token_form(auth_code: str, **changes: str | None) -> dict[str, str]:
    form = {"grant_type": "authorization_code", "code": auth_code, "redirect_uri": CALLBACK, **changes}
    return {name: value for name, value in form.items() if value is not None}


async def test_code_gives_id_and_access_token_once(broker: Broker, verified: Verified) -> None:
    code = await code_of(broker)
    answer = await broker.browser.post("/token", data=token_form(code))
    again = await broker.browser.post("/token", data=token_form(code))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache, no-store"
    content = answer.json()
    assert content["token_type"] == "Bearer"
    assert content["expires_in"] == 600
    claims = verified(content["id_token"])
    assert "nonce" not in claims
    digest = hashlib.sha256(content["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, {"event": "code_redeemed"}),
        (
            {"client_id": "https://other.example"},
            {"event": "code_refused", "reason": "the code was granted to another client"},
        ),
    ],
)
async def test_what_became_of_a_code_is_logged_under_its_login_without_code_and_address(
    broker: Broker, changes: dict[str, str], told: dict[str, str]
) -> None:
    session, mailed = await broker.begin(response_type="code", response_mode="query", nonce=None)
    answer = await broker.confirm(session, mailed)
    code = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]
    with capture_logs() as lines:
        await broker.browser.post("/token", data=token_form(code, **changes))
    assert [line for line in lines if line["event"].startswith("code_")] == [
        {**told, "log_level": "info", "login": short_id(session), "site": SITE}
    ]
    assert not any(secret in str(lines) for secret in (code, mailed, session, "person@"))


async def test_code_presented_again_is_logged_as_refused_without_a_login(broker: Broker) -> None:
    code = await code_of(broker)
    await broker.browser.post("/token", data=token_form(code))
    with capture_logs() as lines:
        await broker.browser.post("/token", data=token_form(code))
    reason = "the code is unknown, has expired or was used before"
    assert {"event": "code_refused", "log_level": "info", "reason": reason} in lines


async def test_userinfo_tells_the_address_until_the_code_is_presented_again(broker: Broker) -> None:
    code = await code_of(broker)
    token = (await broker.browser.post("/token", data=token_form(code))).json()["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    expected = {"sub": "person@example.com", "email": "person@example.com", "email_verified": True}
    assert (await broker.browser.get("/userinfo", headers=bearer)).json() == expected
    assert (await broker.browser.post("/userinfo", headers=bearer)).json() == expected
    assert (await broker.browser.post("/userinfo", data={"access_token": token})).json() == expected
    in_query = await broker.browser.get("/userinfo", params={"access_token": token})
    assert in_query.status_code == 401
    await broker.browser.post("/token", data=token_form(code))
    withdrawn = await broker.browser.get("/userinfo", headers=bearer)
    assert withdrawn.status_code == 401
    assert 'error="invalid_token"' in withdrawn.headers["www-authenticate"]


@pytest.mark.parametrize("junk", [b"", b"\xff", b"no JSON", b"7", b"[]", b"{}", b'{"sub": 7}', b"[" * 200_000])
async def test_junk_in_place_of_what_an_access_token_tells_is_a_told_error(broker: Broker, junk: bytes) -> None:
    code = await code_of(broker)
    token = (await broker.browser.post("/token", data=token_form(code))).json()["access_token"]
    (key,) = [key async for key in broker.store.client.scan_iter(match="access:*")]
    await broker.store.client.hset(key, "claims", junk)
    answer = await broker.browser.get("/userinfo", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 503
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"code": None}, "invalid_request"),
        ({"code": "x" * 43}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": f"{SITE}/other"}, "invalid_grant"),
        ({"client_id": "https://other.example"}, "invalid_grant"),
        ({"code_verifier": VERIFIER}, "invalid_grant"),
    ],
)
async def test_faults_of_a_token_request_have_their_code(
    broker: Broker, changes: dict[str, str | None], error: str
) -> None:
    code = await code_of(broker)
    answer = await broker.browser.post("/token", data=token_form(code, **changes))
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert "no-store" in answer.headers["cache-control"]


async def test_doubled_parameter_of_a_token_request_is_refused(broker: Broker) -> None:
    code = await code_of(broker)
    body = "grant_type=authorization_code&code=a&code=" + code
    answer = await broker.browser.post(
        "/token", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.json()["error"] == "invalid_request"


@pytest.mark.parametrize("verifier", [None, "w" * 50, "short", VERIFIER])
async def test_challenge_asks_for_its_verifier(broker: Broker, verifier: str | None) -> None:
    code = await code_of(broker, code_challenge=CHALLENGE, code_challenge_method="S256")
    answer = await broker.browser.post("/token", data=token_form(code, code_verifier=verifier))
    assert answer.status_code == (200 if verifier == VERIFIER else 400)
    if verifier != VERIFIER:
        assert answer.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "credentials", [f"{SITE}:secret", f"{quote_plus(SITE)}:se%3Acret", f"{SITE}:", "https%3A%2F%2Fsite.example:x"]
)
async def test_basic_credentials_are_taken_in_both_spellings(broker: Broker, credentials: str) -> None:
    code = await code_of(broker)
    header = "Basic " + base64.b64encode(credentials.encode()).decode()
    answer = await broker.browser.post("/token", data=token_form(code), headers={"authorization": header})
    assert answer.status_code == 200


async def test_one_of_300_concurrent_redemptions_succeeds(broker: Broker) -> None:
    code = await code_of(broker)
    answers = await asyncio.gather(*(broker.browser.post("/token", data=token_form(code)) for _ in range(300)))
    assert sum(answer.status_code == 200 for answer in answers) == 1
    assert {answer.json()["error"] for answer in answers if answer.status_code != 200} == {"invalid_grant"}


async def test_browsers_apps_may_call_the_token_endpoint(broker: Broker) -> None:
    preflight = await broker.browser.options("/token", headers={"origin": SITE})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"


@pytest.mark.setting("signing_algs")
async def test_eddsa_signs_when_configured_and_asked_for(make_broker: MakeBroker, verified: Verified) -> None:
    async with make_broker(signing_algs="RS256,EdDSA") as broker:
        code = await code_of(broker, id_token_signing_alg="EdDSA")
        answer = await broker.browser.post("/token", data=token_form(code))
        keys = (await broker.browser.get("/keys.json")).json()["keys"]
    verified(answer.json()["id_token"], "EdDSA")
    assert [key["alg"] for key in keys] == ["RS256", "RS256", "EdDSA", "EdDSA"]

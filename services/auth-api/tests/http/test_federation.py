"""Logins by identity providers, over HTTP: the request to them, and every way in which their answer may be wrong."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from service_kit.settings import Link
from shared_store.signing_keys import SigningKey, generate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Internet
    from tests.conftest import Provider as _Provider
    from tests.http.conftest import Broker, MakeBroker

SITE = "https://site.example"
PUBLIC_URL = "http://localhost:3333"
IDP = "login.mail.example"
DOMAIN = "acme.mail.example"
ADDRESS = f"Some.One@{DOMAIN}"
PORTIER = "https://portier.io/specs/auth/1.0/idp"
GOOGLE = "https://portier.io/specs/auth/1.0/idp/google"
JSON = {"accept": "application/json"}
ED_KEY = generate("EdDSA")
BOMB = gzip.compress(bytes(100_000_000))


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


async def redirected(broker: Broker, **changes: str | None) -> str:
    """Begin a login; gives the URL at the provider."""
    answer = await broker.authorize(**{"login_hint": ADDRESS, **changes})
    assert answer.status_code == 303, answer.text
    url = answer.headers["location"]
    assert url.startswith(f"https://{IDP}/authorize?")
    return str(url)


async def answer_with(
    broker: Broker, url: str, token: str, *, headers: dict[str, str] | None = None, **more: str
) -> httpx.Response:
    data = {"state": query_of(url)["state"], "id_token": token, "_again": "1", **more}
    return await broker.browser.post("/callback", data=data, headers=headers)


@pytest.fixture
def provider(internet: Internet) -> _Provider:
    internet.mail_domain(DOMAIN)
    return internet.provider(IDP)


async def test_request_to_the_provider_is_the_contracts(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, prompt="login")
        query = query_of(url)
        assert len(query.pop("nonce")) == 22
        assert len(query.pop("state")) == 43
        assert query == {
            "login_hint": f"some.one@{DOMAIN}",
            "scope": "openid email",
            "response_type": "id_token",
            "client_id": PUBLIC_URL,
            "redirect_uri": f"{PUBLIC_URL}/callback",
            "response_mode": "form_post",
            "prompt": "login",
        }
        cookie = dict(broker.browser.cookies)
        assert len(cookie) == 1
        assert broker.postbox.mails == []
    assert provider.host == IDP


async def test_error_by_form_post_is_posted_once_more_too_since_the_providers_page_forbids_our_redirect(
    make_broker: MakeBroker, internet: Internet, provider: _Provider, form_fields: Callable[[str], dict[str, str]]
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        data = {"state": query_of(url)["state"], "error": "login_required", "device_ok": "1"}
        page = await broker.browser.post("/callback", data=data)
        assert page.status_code == 200
        assert form_fields(page.text) == {"state": data["state"], "error": "login_required", "_again": "1"}
        assert "form-action 'self' https: http:" in page.headers["content-security-policy"]
        answer = await broker.browser.post("/callback", data=form_fields(page.text))
        assert query_of(answer.headers["location"])["error"] == "login_required"
    assert provider.host == IDP


async def test_login_by_form_post_is_posted_once_more_by_our_own_page_so_that_the_cookie_comes(
    make_broker: MakeBroker,
    internet: Internet,
    provider: _Provider,
    form_fields: Callable[[str], dict[str, str]],
    verified: Callable[..., dict[str, object]],
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="form_post")
        stranger = broker.new_browser()  # a cross-site post: the cookie is Lax and stays away
        data = {"state": query_of(url)["state"], "id_token": provider.token(url)}
        page = await stranger.post("/callback", data=data, headers={"sec-fetch-site": "cross-site"})
        assert page.status_code == 200
        assert "data-fragment" in page.text
        fields = form_fields(page.text)
        done = await broker.browser.post("/callback", data=fields, headers={"sec-fetch-site": "same-origin"})
        assert done.status_code == 200
        claims = verified(form_fields(done.text)["id_token"])
        assert claims["email"] == f"some.one@{DOMAIN}"
        assert claims["email_original"] == ADDRESS
        assert claims["nonce"] == "n-1"
        assert form_fields(done.text)["state"] == "s-1"
        assert "Max-Age=0" in done.headers["set-cookie"]


async def test_login_by_fragment_comes_through_the_callback_page(
    make_broker: MakeBroker, internet: Internet, form_fields: Callable[[str], dict[str, str]]
) -> None:
    internet.mail_domain(DOMAIN)
    provider = internet.provider(IDP, response_modes_supported=["fragment"])
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_type="code", response_mode="query")
        assert "response_mode" not in query_of(url)
        page = await broker.browser.get("/callback", params={"state": query_of(url)["state"]})
        fields = {**form_fields(page.text), "id_token": provider.token(url)}  # from the fragment, by callback.js
        done = await broker.browser.post("/callback", data=fields)
        assert done.status_code == 303
        sent = query_of(done.headers["location"])
        assert sent["state"] == "s-1"
        assert sent["iss"] == PUBLIC_URL
        redeemed = await broker.browser.post(
            "/token",
            data={"grant_type": "authorization_code", "code": sent["code"], "redirect_uri": f"{SITE}/callback"},
        )
        assert redeemed.status_code == 200, redeemed.text


async def test_browser_that_did_not_begin_the_login_is_never_logged_in_silently(
    make_broker: MakeBroker,
    internet: Internet,
    provider: _Provider,
    form_fields: Callable[[str], dict[str, str]],
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker)
        token, state = provider.token(url), query_of(url)["state"]
        victim = broker.new_browser()
        evil = {"state": state, "id_token": token, "_again": "1", "device_ok": "1"}
        page = await victim.post("/callback", data=evil, headers={"sec-fetch-site": "cross-site"})
        assert page.status_code == 200
        assert "Finish logging in to" in page.text
        assert SITE in page.text
        assert f"some.one@{DOMAIN}" in page.text
        assert 'action="/callback"' in page.text
        assert "data-submit" not in page.text
        assert "data-fragment" not in page.text
        refused = await victim.post("/callback", data={"state": state, "id_token": token}, headers=JSON)
        assert (refused.status_code, refused.json()) == (403, {"result": "unverified_device"})
        done = await victim.post(
            "/callback", data=form_fields(page.text), headers={"sec-fetch-site": "same-origin"}
        )  # the button
        assert "id_token" in form_fields(done.text)
        assert form_fields(done.text)["id_token"] != token


async def test_pages_on_the_way_back_speak_the_language_that_the_site_asked_for(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, ui_locales="nl")
        answer = {"state": query_of(url)["state"], "id_token": provider.token(url), "_again": "1"}
        asked = await broker.new_browser().post("/callback", data=answer)
        assert '<html lang="nl"' in asked.text
        done = await broker.browser.post("/callback", data=answer)
        assert '<html lang="nl"' in done.text


async def test_json_client_is_told_where_to_go_and_gets_the_answer(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http(), device_cookie_ttl="-1") as broker:
        answer = await broker.browser.post(
            "/auth",
            data={
                "client_id": SITE,
                "redirect_uri": f"{SITE}/cb",
                "response_type": "id_token",
                "scope": "openid",
                "nonce": "n",
                "login_hint": ADDRESS,
            },
            headers=JSON,
        )
        assert answer.json().keys() == {"result", "url"}
        assert answer.json()["result"] == "redirect_to_provider"
        url = answer.json()["url"]
        done = await answer_with(broker, url, provider.token(url), headers=JSON, device_ok="1")
        assert done.json().keys() == {"id_token"}


async def test_answer_is_taken_exactly_once(make_broker: MakeBroker, internet: Internet, provider: _Provider) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        token = provider.token(url)
        answers = await asyncio.gather(*(answer_with(broker, url, token) for _ in range(30)))
        assert sorted(answer.status_code for answer in answers) == [303] + [400] * 29


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "https://other-broker.example"}, "aud"),
        ({"aud": None}, "aud"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": 4_000_000_000}, "future"),
        ({"email": "other@acme.mail.example"}, "email"),
        ({"email": None}, "email"),
        ({"email_original": "other@acme.mail.example"}, "email_original"),
        ({"key": generate("RS256"), "kid": "provider"}, "signature"),
        ({"key": generate("RS256")}, "kid names 0"),
        ({"key": ED_KEY}, "alg"),
    ],
)
async def test_token_that_fails_a_check_goes_back_as_an_error_and_consumes_nothing(
    make_broker: MakeBroker, internet: Internet, provider: _Provider, changes: dict[str, object], reason: str
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        kid = changes.pop("kid", None)
        key = changes.pop("key", None)
        assert key is None or isinstance(key, SigningKey)
        real_kid = internet.provider_kid() if kid else None
        refused = await answer_with(broker, url, provider.token(url, key, real_kid, **changes))
        assert refused.status_code == 303
        sent = query_of(refused.headers["location"])
        assert sent["error"] == "temporarily_unavailable"
        assert reason in sent["error_description"]
        done = await answer_with(broker, url, provider.token(url))
        assert query_of(done.headers["location"].replace("#", "?")).keys() == {"state", "id_token", "iss"}


async def test_two_keys_of_one_name_prove_nothing(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    other = generate("RS256")
    token_kid = internet.provider_kid()
    internet.serve(IDP, "/keys", {"keys": [internet.provider_jwk(), {**dict(other.public_jwk), "kid": token_kid}]})
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        refused = await answer_with(broker, url, provider.token(url))
        assert "kid names 2" in query_of(refused.headers["location"])["error_description"]


async def test_new_key_of_a_provider_is_fetched_once_for_an_unknown_name(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    new, never = generate("RS256"), generate("RS256")
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        assert internet.asked(IDP, "/keys") == 1
        internet.serve(IDP, "/keys", {"keys": [dict(new.public_jwk)]})
        for _ in range(5):
            refused = await answer_with(broker, url, provider.token(url, never))
            assert "error" in query_of(refused.headers["location"])
        assert internet.asked(IDP, "/keys") == 2
        done = await answer_with(broker, url, provider.token(url, new))
        assert "id_token" in query_of(done.headers["location"])


@pytest.mark.parametrize(
    ("error", "sent", "status"),
    [
        ("interaction_required", "interaction_required", 400),
        ("login_required", "login_required", 400),
        ("access_denied", "temporarily_unavailable", 503),
        ("<script>", "temporarily_unavailable", 503),
    ],
)
async def test_errors_of_the_provider_go_back_and_consume_nothing(
    make_broker: MakeBroker, internet: Internet, provider: _Provider, error: str, sent: str, status: int
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query", prompt="none")
        assert query_of(url)["prompt"] == "none"
        data = {"state": query_of(url)["state"], "error": error, "_again": "1"}
        answer = await broker.browser.post("/callback", data=data)
        assert query_of(answer.headers["location"])["error"] == sent
        as_json = await broker.browser.post("/callback", data=data, headers=JSON)
        assert (as_json.status_code, as_json.json()["error"]) == (status, sent)
        assert (await answer_with(broker, url, provider.token(url))).status_code == 303


async def test_callback_without_what_it_needs_is_told_here(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http()) as broker:
        post = broker.browser.post
        again = {"_again": "1"}
        assert "missing request parameter state" in (await post("/callback", data={"id_token": "x", **again})).text
        for state in ("x", "A" * 43):
            assert "The session has expired." in (await post("/callback", data={"state": state, **again})).text
        url = await redirected(broker, response_mode="query")
        missing = await post("/callback", data={"state": query_of(url)["state"], **again})
        assert query_of(missing.headers["location"])["error_description"] == "missing request parameter id_token"
        twice = {"state": [query_of(url)["state"]] * 2}
        assert (await post("/callback", data=twice)).status_code == 400
        assert (await broker.browser.get("/callback", params=twice)).status_code == 400
        assert (await broker.browser.head("/callback")).status_code == 200
    assert provider.host == IDP


async def test_session_of_the_other_kind_is_refused_on_both_sides(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker)
        by_provider = await broker.confirm(query_of(url)["state"], "aaaaaabbbbbb")
        assert (by_provider.status_code, "invalid session" in by_provider.text) == (400, True)
        session, _ = await broker.begin(login_hint="person@nobody.mail.example")
        data = {"state": session, "id_token": provider.token(url), "_again": "1"}
        by_mail = await broker.browser.post("/callback", data=data)
        assert (by_mail.status_code, "invalid session" in by_mail.text) == (400, True)


async def test_ed25519_is_asked_for_and_expected_where_the_provider_can(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    provider = internet.provider(
        IDP,
        id_token_signing_alg_values_supported=["RS256", "EdDSA"],
        accepts_id_token_signing_alg_query_param=True,
    )
    internet.serve(IDP, "/keys", {"keys": [internet.provider_jwk(), dict(ED_KEY.public_jwk)]})
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        assert query_of(url)["id_token_signing_alg"] == "EdDSA"
        refused = await answer_with(broker, url, provider.token(url))
        assert "alg" in query_of(refused.headers["location"])["error_description"]
        assert "id_token" in query_of((await answer_with(broker, url, provider.token(url, ED_KEY))).headers["location"])


@pytest.mark.setting("google_client_id")
async def test_google_knows_an_address_in_its_own_form(make_broker: MakeBroker, internet: Internet) -> None:
    google = internet.provider("accounts.google.com", response_modes_supported=["query", "fragment", "form_post"])
    async with make_broker(http=internet.http(), google_client_id="client.apps.example") as broker:
        answer = await broker.authorize(login_hint="First.Last@googlemail.com", response_mode="query")
        url = answer.headers["location"]
        assert url.startswith("https://accounts.google.com/authorize?")
        assert query_of(url)["client_id"] == "client.apps.example"
        done = await answer_with(broker, url, google.token(url, email="firstlast@gmail.com"))
        assert "id_token" in query_of(done.headers["location"])
        metrics = (await broker.browser.get("/metrics")).text
    assert 'portier_auth_oidc_requests{rel="google"} 1' in metrics
    assert "portier_auth_oidc_completed 1" in metrics
    assert internet.asked("googlemail.com") == 0


async def test_google_without_client_id_or_elsewhere_is_not_used(make_broker: MakeBroker, internet: Internet) -> None:
    internet.mail_domain(DOMAIN, "https://accounts.google.com", GOOGLE)
    internet.provider("accounts.google.com")
    async with make_broker(http=internet.http()) as broker:
        await broker.begin(login_hint=ADDRESS)
    internet.mail_domain(f"b-{DOMAIN}", f"https://{IDP}", GOOGLE)
    async with make_broker(http=internet.http(), google_client_id="client") as broker:
        await broker.begin(login_hint=f"a@b-{DOMAIN}")
    assert internet.asked("accounts.google.com") == 0


@pytest.mark.setting("domain_overrides")
async def test_overrides_win_over_webfinger_and_google(make_broker: MakeBroker, internet: Internet) -> None:
    internet.mail_domain(DOMAIN, "https://elsewhere.mail.example")
    internet.provider(IDP)
    link = Link(rel=PORTIER, href=f"https://{IDP}")
    overrides = {DOMAIN: (link,), "gmail.com": (), "göteborg.mail.example": (link,)}
    async with make_broker(http=internet.http(), overrides=overrides, google_client_id="client") as broker:
        await redirected(broker)
        await redirected(broker, login_hint="björn@göteborg.mail.example")
        await broker.begin(login_hint="a@gmail.com")
    assert internet.asked(DOMAIN) == 0
    assert internet.asked("accounts.google.com") == 0


FAULTS: dict[str, Callable[[Internet], object]] = {
    "no WebFinger": lambda net: net.replies.pop((DOMAIN, "/.well-known/webfinger")),
    "WebFinger fails": lambda net: net.serve(DOMAIN, "/.well-known/webfinger", {}, status=500),
    "WebFinger is HTML": lambda net: net.serve(DOMAIN, "/.well-known/webfinger", b"<html>"),
    "no links": lambda net: net.serve(DOMAIN, "/.well-known/webfinger", {"links": []}),
    "leads back here": lambda net: net.mail_domain(DOMAIN, PUBLIC_URL),
    "leads to this machine": lambda net: net.mail_domain(DOMAIN, "https://127.0.0.1"),
    "leads to a file": lambda net: net.mail_domain(DOMAIN, "file:///etc/passwd"),
    "unknown provider": lambda net: net.names.hosts.update({IDP: [[]]}),
    "private provider": lambda net: net.names.hosts.update({IDP: [["10.1.2.3"]]}),
    "no configuration": lambda net: net.replies.pop((IDP, "/.well-known/openid-configuration")),
    "configuration is not JSON": lambda net: net.serve(IDP, "/.well-known/openid-configuration", b"{"),
    "configuration is huge": lambda net: net.serve(IDP, "/.well-known/openid-configuration", b" " * 3_000_000),
    "configuration is another's": lambda net: net.provider(IDP, issuer="https://evil.example"),
    "configuration lacks fields": lambda net: net.serve(IDP, "/.well-known/openid-configuration", {}),
    "keys on this machine": lambda net: net.provider(IDP, jwks_uri="https://127.0.0.1/keys"),
    "keys by http": lambda net: net.provider(IDP, jwks_uri=f"http://{IDP}/keys"),
    "keys redirect to this machine": lambda net: net.serve(
        IDP, "/keys", {}, status=302, headers={"Location": "https://127.0.0.1/keys"}
    ),
    "keys redirect to http": lambda net: net.serve(
        IDP, "/keys", {}, status=302, headers={"Location": f"http://{IDP}/keys2"}
    ),
    "keys redirect in a circle": lambda net: net.serve(IDP, "/keys", {}, status=302, headers={"Location": "/keys"}),
    "configuration of a wrong certificate": lambda net: net.mail_domain(DOMAIN, "https://login.other.example"),
    "configuration explodes when unzipped": lambda net: net.serve(
        IDP, "/.well-known/openid-configuration", BOMB, headers={"Content-Encoding": "gzip"}
    ),
    "configuration drips": lambda net: net.serve(IDP, "/.well-known/openid-configuration", {}, drips=True),
    "configuration hangs": lambda net: net.serve(IDP, "/.well-known/openid-configuration", {}, hold=asyncio.Event()),
    "name turns private between WebFinger and configuration": lambda net: net.names.hosts.update(
        {"acme.mail.example": [["93.184.216.34"]], IDP: [["127.0.0.1"]]}
    ),
    "name is public and private at once": lambda net: net.names.hosts.update({IDP: [["93.184.216.34", "127.0.0.1"]]}),
    "redirects to a name of this machine": lambda net: (
        net.names.hosts.update({"inside.mail.example": [["127.0.0.1"]]}),
        net.serve(IDP, "/keys", {}, status=307, headers={"Location": "https://inside.mail.example/keys"}),
    ),
    "no keys": lambda net: net.serve(IDP, "/keys", {"keys": []}),
    "keys for another algorithm": lambda net: net.serve(IDP, "/keys", {"keys": [dict(ED_KEY.public_jwk)]}),
    "only query mode": lambda net: net.provider(IDP, response_modes_supported=["query"]),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_any_fault_of_discovery_means_a_mail_and_with_prompt_none_an_error(
    make_broker: MakeBroker, internet: Internet, provider: _Provider, fault: str
) -> None:
    FAULTS[fault](internet)
    quick = dict.fromkeys(("discovery_timeout", "oidc_config_timeout"), "2")
    async with make_broker(http=internet.http(), **quick) as broker:
        answer = await broker.authorize(login_hint=ADDRESS)
        assert answer.status_code == 200
        assert (await broker.postbox.mail()).to == f"some.one@{DOMAIN}"
        none = await broker.authorize(login_hint=ADDRESS, prompt="none", response_mode="query")
        assert query_of(none.headers["location"])["error"] == "interaction_required"
    assert all(address == ("93.184.216.34", 443) for address in internet.network.connected)
    assert provider.host == IDP


@pytest.mark.setting("uncounted_emails")
async def test_uncounted_address_leaves_no_trace_in_the_metrics_of_success(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http(), uncounted_emails=f"some.one@{DOMAIN}") as broker:
        url = await redirected(broker)
        await answer_with(broker, url, provider.token(url))
        metrics = (await broker.browser.get("/metrics")).text
    assert 'portier_auth_oidc_requests{rel="portier"} 0' in metrics
    assert "portier_auth_oidc_completed 0" in metrics
    for name in ("auth_webfinger_duration", "auth_oidc_fetch_config_duration", "auth_oidc_fetch_jwks_duration"):
        assert f"portier_{name}_count 0.0" in metrics


async def test_token_is_judged_by_the_servers_clock(
    make_broker: MakeBroker, internet: Internet, provider: _Provider
) -> None:
    async with make_broker(http=internet.http()) as broker:
        url = await redirected(broker, response_mode="query")
        late = provider.token(url, exp=int(time.time()) - 20)
        assert "id_token" in query_of((await answer_with(broker, url, late)).headers["location"])

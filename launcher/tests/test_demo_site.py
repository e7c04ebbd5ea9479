import base64
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import respx
from cryptography.hazmat.primitives.asymmetric import rsa

from portier_broker.demo_site import demo_app, running_demo_site
from portier_broker.ports import listening_socket

ISSUER = "http://localhost:3333"
ORIGIN = "http://localhost:3381"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    """A broker as the site sees it; `token` and `claims` are what tests bend."""

    def __init__(self, router: respx.MockRouter) -> None:
        self.nonce = ""
        self.challenge = ""
        self.key = KEY
        self.claims: dict[str, object] = {}
        self.kid = "one"
        router.get(f"{ISSUER}/.well-known/openid-configuration").respond(
            json={
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/auth",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/keys.json",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )
        router.get(f"{ISSUER}/keys.json").mock(side_effect=self._keys)
        self.token_requests: list[dict[str, list[str]]] = []
        router.post(f"{ISSUER}/token").mock(side_effect=self._token)

    def _keys(self, _request: httpx.Request) -> httpx.Response:
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        return httpx.Response(200, json={"keys": [{**jwk, "kid": self.kid, "use": "sig", "alg": "RS256"}]})

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        self.token_requests.append(form)
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != self.challenge:
            return httpx.Response(400, json={"error": "invalid_grant"})
        token = {"access_token": "opaque", "token_type": "Bearer", "id_token": self.id_token()}
        return httpx.Response(200, json=token)

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": ORIGIN,
            "sub": "a@b.test",
            "email": "a@b.test",
            "iat": now,
            "exp": now + 600,
            "nonce": self.nonce,
            **self.claims,
        }
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.kid})


@pytest.fixture
def provider() -> Iterator[Provider]:
    with respx.mock(assert_all_called=False) as router:
        yield Provider(router)


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(demo_app(origin=ORIGIN, issuer=ISSUER))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


async def begin(browser: httpx.AsyncClient, provider: Provider, flow: str) -> dict[str, str]:
    answer = await browser.get(f"/{flow}/login", params={"email": "a@b.test"})
    assert answer.is_redirect, answer.text
    target = urlsplit(answer.headers["location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == f"{ISSUER}/auth"
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    provider.nonce = query["nonce"]
    provider.challenge = query.get("code_challenge", "")
    return query


async def finish(browser: httpx.AsyncClient, flow: str, provider: Provider, **answer: str) -> httpx.Response:
    if flow == "code":
        return await browser.get("/code/callback", params={"code": "c", "iss": ISSUER, **answer})
    form = {"id_token": provider.id_token(), "iss": ISSUER, **answer}
    return await browser.post("/form-post/callback", data=form, headers={"Origin": ISSUER})


async def logged_in(browser: httpx.AsyncClient) -> bool:
    return '<strong id="email">a@b.test</strong>' in (await browser.get("/")).text


BOTH = pytest.mark.parametrize("flow", ["code", "form-post"])


@BOTH
async def test_login_shows_who_is_logged_in_until_they_log_out(
    browser: httpx.AsyncClient, provider: Provider, flow: str
) -> None:
    query = await begin(browser, provider, flow)
    assert query["client_id"] == ORIGIN
    assert query["login_hint"] == "a@b.test"
    assert query["scope"] == "openid email"
    answer = await finish(browser, flow, provider, state=query["state"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    assert await logged_in(browser)
    assert (await browser.post("/logout")).status_code == 303
    assert not await logged_in(browser)


async def test_code_is_exchanged_with_the_verifier_and_without_a_secret(
    browser: httpx.AsyncClient, provider: Provider
) -> None:
    query = await begin(browser, provider, "code")
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    await finish(browser, "code", provider, state=query["state"])
    [request] = provider.token_requests
    assert request["client_id"] == [ORIGIN]
    assert request["redirect_uri"] == [f"{ORIGIN}/code/callback"]
    assert "client_secret" not in request
    assert "code_verifier" in request


async def test_form_post_flow_asks_for_an_id_token_by_post(browser: httpx.AsyncClient, provider: Provider) -> None:
    query = await begin(browser, provider, "form-post")
    assert (query["response_type"], query["response_mode"]) == ("id_token", "form_post")
    assert "code_challenge" not in query


@BOTH
@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://elsewhere.test"},
        {"aud": "http://localhost:9999"},
        {"nonce": "another"},
        {"exp": 1},
        {"email": None},
    ],
    ids=lambda claims: next(iter(claims)),
)
async def test_id_token_that_is_not_for_this_login_is_refused(
    browser: httpx.AsyncClient, provider: Provider, flow: str, claims: dict[str, object]
) -> None:
    query = await begin(browser, provider, flow)
    provider.claims = claims
    answer = await finish(browser, flow, provider, state=query["state"])
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert not await logged_in(browser)


@BOTH
async def test_id_token_signed_by_someone_else_is_refused(
    browser: httpx.AsyncClient, provider: Provider, flow: str
) -> None:
    query = await begin(browser, provider, flow)
    provider.key = OTHER_KEY
    assert (await finish(browser, flow, provider, state=query["state"])).status_code == 400
    assert not await logged_in(browser)


@BOTH
async def test_key_that_came_by_rotation_is_fetched(browser: httpx.AsyncClient, provider: Provider, flow: str) -> None:
    for kid in ("one", "two"):
        provider.kid = kid
        query = await begin(browser, provider, flow)
        assert (await finish(browser, flow, provider, state=query["state"])).status_code == 303


@BOTH
async def test_answer_to_a_login_of_another_browser_is_refused(
    browser: httpx.AsyncClient, provider: Provider, flow: str
) -> None:
    query = await begin(browser, provider, flow)
    browser.cookies.clear()
    assert (await finish(browser, flow, provider, state=query["state"])).status_code == 400
    assert not await logged_in(browser)


@BOTH
async def test_answer_that_names_another_issuer_is_refused(
    browser: httpx.AsyncClient, provider: Provider, flow: str
) -> None:
    query = await begin(browser, provider, flow)
    answer = await finish(browser, flow, provider, state=query["state"], iss="http://elsewhere.test")
    assert answer.status_code == 400


@BOTH
async def test_answer_presented_twice_is_refused_the_second_time(
    browser: httpx.AsyncClient, provider: Provider, flow: str
) -> None:
    query = await begin(browser, provider, flow)
    await finish(browser, flow, provider, state=query["state"])
    assert (await finish(browser, flow, provider, state=query["state"])).status_code == 400


@BOTH
async def test_error_of_the_broker_is_shown_escaped(browser: httpx.AsyncClient, provider: Provider, flow: str) -> None:
    query = await begin(browser, provider, flow)
    answer = await finish(
        browser, flow, provider, state=query["state"], error="access_denied", error_description="<b>no</b>"
    )
    assert answer.status_code == 400
    assert "access_denied: &lt;b&gt;no&lt;/b&gt;" in answer.text


async def test_broker_that_does_not_answer_is_told(browser: httpx.AsyncClient) -> None:
    with respx.mock() as router:
        router.get(f"{ISSUER}/.well-known/openid-configuration").mock(side_effect=httpx.ConnectError("no one there"))
        answer = await browser.get("/code/login", params={"email": "a@b.test"})
    assert answer.status_code == 400
    assert "no one there" in answer.text


async def test_answer_of_unbounded_size_is_refused(browser: httpx.AsyncClient, provider: Provider) -> None:
    await begin(browser, provider, "form-post")
    answer = await browser.post("/form-post/callback", data={"id_token": "x" * 100_000})
    assert answer.status_code == 400


async def test_session_changes_its_cookie_at_login(browser: httpx.AsyncClient, provider: Provider) -> None:
    query = await begin(browser, provider, "code")
    before = browser.cookies["demo_session_3381"]
    answer = await finish(browser, "code", provider, state=query["state"])
    assert browser.cookies["demo_session_3381"] != before
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_page_has_a_strict_policy_and_no_script(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert (await browser.get("/demo.css")).headers["content-type"].startswith("text/css")


async def test_site_says_which_origin_it_has() -> None:
    listener = listening_socket(0)
    async with running_demo_site(listener, issuer=ISSUER) as origin, httpx.AsyncClient(trust_env=False) as client:
        assert origin == f"http://localhost:{listener.getsockname()[1]}"
        assert (await client.get(origin.replace("localhost", "127.0.0.1"))).status_code == 200

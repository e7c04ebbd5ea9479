"""What each of auth-api's settings does that no other test of this folder shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest

from auth_api.discovery.cache import STALE
from auth_api.discovery.safe_http import SafeHttp
from service_kit.settings import Link
from shared_store import fetch_cache
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.keyspace import AUTH_CODE, LOGIN
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate

if TYPE_CHECKING:
    from tests.conftest import Internet
    from tests.http.conftest import Broker, MakeBroker

PORTIER = "https://portier.io/specs/auth/1.0/idp"
IDP, DOMAIN = "login.mail.example", "acme.mail.example"
CONFIGURATION = "/.well-known/openid-configuration"


async def lifetimes(broker: Broker, pattern: str) -> set[int]:
    """Seconds left to the keys of this kind, rounded."""
    keys = await broker.store.client.keys(pattern)
    return {round(await broker.store.client.pttl(key) / 1000) for key in keys}


@pytest.mark.setting("public_url")
async def test_public_url_is_the_issuer_and_where_links_lead(make_broker: MakeBroker) -> None:
    async with make_broker(public_url="https://login.example") as broker:
        document = (await broker.browser.get(CONFIGURATION)).json()
        await broker.authorize()
        assert document["issuer"] == "https://login.example"
        assert document["token_endpoint"] == "https://login.example/token"
        assert (await broker.postbox.mail()).link.startswith("https://login.example/confirm?")


@pytest.mark.setting("csp")
async def test_policy_of_ones_own_replaces_the_built_in_one(make_broker: MakeBroker) -> None:
    async with make_broker(csp="default-src 'self'") as broker:
        for page in (await broker.browser.get("/"), await broker.authorize(), await broker.authorize(scope="")):
            assert page.headers["content-security-policy"] == "default-src 'self'"


@pytest.mark.setting("static_ttl", "discovery_ttl")
async def test_lifetimes_of_documents_are_told(make_broker: MakeBroker) -> None:
    async with make_broker(static_ttl="11", discovery_ttl="12") as broker:
        static = await broker.browser.get("/static/portier.css")
        document = await broker.browser.get(CONFIGURATION)
        of_another_version = await broker.browser.get("/static/0123456789abcdef.portier.css")
    assert static.headers["cache-control"] == of_another_version.headers["cache-control"] == "public, max-age=11"
    assert of_another_version.content == static.content
    assert document.headers["cache-control"] == "public, max-age=12, s-maxage=0"


@pytest.mark.setting("session_ttl")
async def test_login_lives_as_long_as_set_and_its_mail_says_so(make_broker: MakeBroker) -> None:
    async with make_broker(session_ttl="77") as broker:
        await broker.authorize()
        assert await lifetimes(broker, LOGIN.key(session="*")) <= {76, 77}
        job = await broker.postbox.mail()
        assert job.expires_in == 77
        assert job.deadline < time.time() + 77


@pytest.mark.setting("auth_code_ttl", "token_ttl")
async def test_code_and_tokens_live_as_long_as_set(make_broker: MakeBroker) -> None:
    async with make_broker(auth_code_ttl="55", token_ttl="66") as broker:
        session, code = await broker.begin(response_type="code", response_mode="query")
        done = await broker.confirm(session, code)
        assert await lifetimes(broker, AUTH_CODE.key(digest="*")) <= {54, 55}
        auth_code = dict(parse_qsl(urlsplit(done.headers["location"]).query))["code"]
        form = {
            "grant_type": "authorization_code",
            "code": auth_code,
            "redirect_uri": "https://site.example/callback",
        }
        answer = (await broker.browser.post("/token", data=form)).json()
    claims = jwt.decode(answer["id_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == answer["expires_in"] == 66


@pytest.mark.setting("webfinger_timeout", "oidc_config_timeout", "oidc_jwks_timeout")
@pytest.mark.parametrize(
    ("setting", "place", "name"),
    [
        ("webfinger_timeout", (DOMAIN, "/.well-known/webfinger"), f"webfinger:{DOMAIN}"),
        ("oidc_config_timeout", (IDP, CONFIGURATION), f"https://{IDP}{CONFIGURATION}"),
        ("oidc_jwks_timeout", (IDP, "/keys"), f"keys https://{IDP}/keys"),
    ],
)
async def test_document_that_does_not_come_is_given_up_after_its_own_time(
    make_broker: MakeBroker, internet: Internet, setting: str, place: tuple[str, str], name: str
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    internet.replies[place].hold = asyncio.Event()
    async with make_broker(http=internet.http(), discovery_timeout="60", **{setting: "1"}) as broker:
        assert (await broker.authorize(login_hint=f"a@{DOMAIN}")).status_code == 200
        known = await broker.store.run(fetch_cache.read(name))
    assert known is not None
    assert "within 1 s" in str(known.failure)


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Note every bound of time that anything sets: how long it would take is not waited for."""
    noted: list[float | None] = []
    timeout = asyncio.timeout

    def noting(delay: float | None) -> asyncio.Timeout:
        noted.append(delay)
        return timeout(delay)

    monkeypatch.setattr(asyncio, "timeout", noting)
    return noted


@pytest.mark.setting("discovery_timeout", "mail_wait")
async def test_login_waits_for_discovery_and_for_its_mail_as_long_as_set(
    make_broker: MakeBroker, bounds: list[float | None]
) -> None:
    async with make_broker(discovery_timeout="17", mail_wait="19") as broker:
        assert (await broker.authorize()).status_code == 200
    assert {17, 19} <= set(bounds)


@pytest.mark.setting("cache_ttl")
async def test_document_without_a_lifetime_of_its_own_is_kept_as_long_as_set(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(http=internet.http(), cache_ttl="7000") as broker:
        assert (await broker.authorize(login_hint=f"a@{DOMAIN}")).status_code == 303
        lives = await lifetimes(broker, "fetch:*")
    assert all(6900 < life - STALE <= 7000 for life in lives), lives


@pytest.mark.setting("keyfiles", "keytext", "keys_ttl")
async def test_keys_of_ones_own_are_published_and_the_last_one_signs(make_broker: MakeBroker, tmp_path: Path) -> None:
    first, second, last = (generate("EdDSA") for _ in range(3))
    (tmp_path / "keys.pem").write_text(f"one\n{first.private_pem}\nand another\n{second.private_pem}")
    settings = {"keyfiles": str(tmp_path / "keys.pem"), "keytext": last.private_pem, "signing_algs": "EdDSA"}
    async with make_broker(keys=False, keys_ttl="33", **settings) as broker:
        answer = await broker.browser.get("/keys.json")
        session, code = await broker.begin(id_token_signing_alg="EdDSA", response_mode="query")
        done = await broker.confirm(session, code)
    assert [key["kid"] for key in answer.json()["keys"]] == [last.kid, first.kid, second.kid]
    assert answer.headers["cache-control"] == "public, max-age=33, s-maxage=0"
    token = dict(parse_qsl(urlsplit(done.headers["location"]).query))["id_token"]
    assert jwt.get_unverified_header(token)["kid"] == last.kid


@pytest.mark.setting("key_encryption_key")
async def test_keys_that_are_sealed_are_opened_with_any_of_the_keys_for_that(make_broker: MakeBroker) -> None:
    old, new = "o" * 40, "n" * 40
    async with make_broker(keys=False, key_encryption_key=f"{new},{old}") as broker:
        current, following = (PublishedKey(generate("RS256"), 0, 0, 4_000_000_000) for _ in range(2))
        sealed = KeySets(Sealer([old]))
        await broker.store.run(sealed.replace(KeySet("RS256", 1, current, following), expected_version=0))
        async with asyncio.timeout(20):
            while (answer := await broker.browser.get("/keys.json")).status_code != 200:
                await asyncio.sleep(0.05)
        assert answer.json()["keys"][0]["kid"] == current.key.kid
        async with make_broker(keys=False, key_encryption_key="x" * 40) as stranger:
            assert (await stranger.browser.get("/keys.json")).status_code == 503


@pytest.mark.setting("mail_queue_max", "mail_queue_shards")
async def test_more_mails_than_may_wait_are_refused_with_503_and_a_time_to_come_again(make_broker: MakeBroker) -> None:
    async with make_broker(mail_queue_max="1", mail_queue_shards="2", mail_wait="0") as broker:
        # The postbox empties the first queue alone, so the second one fills up.
        answers = [await broker.authorize() for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) > 1
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert 200 in {answer.status_code for answer in answers}


@pytest.mark.setting("data_dir")
async def test_template_static_file_and_sentence_of_ones_own_are_served(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    for name, text in {
        "tmpl/home.html": '{% extends "base.html" %}{% block main %}<h1>Ours: {{ _("Error") }}</h1>{% endblock %}',
        "res/robots.txt": "User-agent: *\nDisallow: /\n",
        "res/static/portier.css": "h1 { color: red }",
        "lang/de.po": 'msgid "Error"\nmsgstr "Hoppla"\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    async with make_broker(data_dir=str(tmp_path)) as broker:
        assert "Ours: Hoppla" in (await broker.browser.get("/", headers={"accept-language": "de"})).text
        assert (await broker.browser.get("/robots.txt")).text == "User-agent: *\nDisallow: /\n"
        assert (await broker.browser.get("/static/portier.css")).text == "h1 { color: red }"
        assert (await broker.browser.get("/res/robots.txt")).status_code == 404
    async with make_broker() as broker:
        assert "Ours" not in (await broker.browser.get("/")).text
        assert (await broker.browser.get("/robots.txt")).status_code == 404


@pytest.fixture
async def plain_provider() -> AsyncIterator[tuple[str, list[str]]]:
    """Give the origin of a server on this machine that speaks http alone, and the paths it is asked for."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://localhost:{server.sockets[0].getsockname()[1]}", asked
    server.close()


@pytest.mark.setting("development")
@pytest.mark.parametrize("development", [True, False])
async def test_provider_without_tls_on_this_machine_is_asked_in_development_alone(
    make_broker: MakeBroker, plain_provider: tuple[str, list[str]], development: bool
) -> None:
    origin, asked = plain_provider
    overrides = {DOMAIN: (Link(rel=PORTIER, href=origin),)}
    switch = str(development).lower()
    async with make_broker(http=SafeHttp(development=development), overrides=overrides, development=switch) as broker:
        assert (await broker.authorize(login_hint=f"a@{DOMAIN}")).status_code == 200
    assert asked == ([CONFIGURATION] if development else [])


@pytest.mark.setting("redis_max_connections")
async def test_no_more_connections_to_redis_are_opened_than_allowed(make_broker: MakeBroker) -> None:
    async def most(allowed: int) -> int:
        async with make_broker(redis_max_connections=str(allowed), mail_wait="0") as broker:
            found, asking = 0, asyncio.gather(*(broker.authorize() for _ in range(60)))
            while not asking.done():
                clients = await broker.store.client.client_list()
                found = max(found, sum(client["name"] == "auth-api" and client["sub"] == "0" for client in clients))
                await asyncio.sleep(0)
            assert {answer.status_code for answer in await asking} == {200}
        return found

    assert await most(2) <= 2 < await most(30)


async def test_version_names_the_commit_that_the_platform_tells(
    make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_broker() as broker:
        plain = await broker.browser.get("/ver.txt")
    monkeypatch.setenv("HEROKU_SLUG_COMMIT", "0123abc")
    async with make_broker() as broker:
        told = await broker.browser.get("/ver.txt")
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.text.startswith("Portier ")
    assert told.text == f"{plain.text} (git commit 0123abc)"

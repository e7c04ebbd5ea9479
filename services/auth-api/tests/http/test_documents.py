"""What is served from memory, and the headers that everything has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from auth_api import domains

if TYPE_CHECKING:
    from tests.http.conftest import Broker, MakeBroker


async def test_discovery_names_every_endpoint_and_may_be_kept(broker: Broker) -> None:
    answer = await broker.browser.get("/.well-known/openid-configuration")
    document = answer.json()
    assert document["issuer"] == "http://localhost:3333"
    for name in ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"):
        assert document[name].startswith("http://localhost:3333/")
    assert answer.headers["cache-control"] == "public, max-age=604800, s-maxage=0"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await broker.browser.get("/.well-known/oauth-authorization-server")).json() == document


async def test_keys_are_published_current_first_with_expiry(broker: Broker) -> None:
    answer = await broker.browser.get("/keys.json")
    keys = answer.json()["keys"]
    assert [key["use"] for key in keys] == ["sig", "sig"]
    assert not any("d" in key for key in keys)
    assert answer.headers["cache-control"].startswith("public, max-age=")
    assert "expires" in answer.headers
    unchanged = await broker.browser.get("/keys.json", headers={"if-none-match": answer.headers["etag"]})
    assert unchanged.status_code == 304


async def test_documents_wait_for_redis_not_once(broker: Broker) -> None:
    await broker.browser.get("/keys.json")
    commands = (await broker.store.client.info("stats"))["total_commands_processed"]
    for _ in range(10):
        await broker.browser.get("/keys.json")
        await broker.browser.get("/.well-known/openid-configuration")
    # The postbox, the pub/sub subscription and the readiness watch go on meanwhile, at a few commands a second.
    assert (await broker.store.client.info("stats"))["total_commands_processed"] - commands < 10


async def test_normalize_answers_line_by_line(broker: Broker) -> None:
    lines = "EXAMPLE.FOO+BAR@EXAMPLE.COM\r\nBJÖRN@göteborg.test\nfoo@[::1]\n\nlast@example.com"
    answer = await broker.browser.post("/normalize", content=lines.encode())
    assert answer.text == "example.foo+bar@example.com\nbjörn@xn--gteborg-90a.test\n\n\nlast@example.com\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_domains_that_are_slow_to_encode_are_refused_before_they_are(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    check = domains._check_unicode_label

    def noting(label: str) -> None:
        encoded.append(len(label))
        check(label)

    monkeypatch.setattr(domains, "_check_unicode_label", noting)
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 990)))
    long = ".".join(many[at : at + 60] for at in range(0, 600, 60))
    lines = [f"a@{many}", f"a@{many[:300]}.example", f"a@{long}", "a@\u4e00.example"]
    answer = await broker.browser.post("/normalize", content="\n".join(lines).encode())
    assert answer.text == "\n\n\na@xn--4gq.example\n"
    assert max(encoded) == 1


async def test_normalize_answers_for_as_many_lines_as_came_or_not_at_all(broker: Broker) -> None:
    async def lines_of(content: bytes) -> list[str]:
        answer = await broker.browser.post("/normalize", content=content)
        assert answer.headers["cache-control"] == "no-store"
        return answer.text.splitlines()

    assert await lines_of(b"") == []
    assert await lines_of(b"\n\n") == ["", ""]
    assert await lines_of(b"A@b.example\n\xff@b.example\n\xc3\xa9@b.example\n") == ["a@b.example", "", "é@b.example"]
    assert await lines_of(b"a@b.example\n" * 1000) == ["a@b.example"] * 1000
    assert await lines_of(b"a" * 60_000) == [""]
    for content in (b"\n" * 1001, b"a@b.example\n" * 1000 + b"x", b"a" * 70_000):
        assert (await broker.browser.post("/normalize", content=content)).status_code == 413


async def test_home_version_metrics_and_unknown_paths(broker: Broker) -> None:
    assert "https://portier.github.io" in (await broker.browser.get("/")).text
    assert (await broker.browser.get("/ver.txt")).text.startswith("Portier ")
    await broker.authorize()
    metrics = (await broker.browser.get("/metrics")).text
    assert "\nportier_auth_email_requests 1\n" in metrics
    assert 'portier_http_response_status{code="2xx"}' in metrics
    assert "portier_auth_email_send_duration_count 1.0" in metrics
    assert (await broker.browser.get("/nothing/here")).status_code == 404
    assert (await broker.browser.get("/static/../settings.py")).status_code == 404


@pytest.mark.parametrize("path", ["/", "/auth", "/keys.json", "/nothing", "/confirm"])
async def test_every_answer_has_the_headers_of_safety(broker: Broker, path: str) -> None:
    answer = await broker.browser.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "referrer-policy" in answer.headers
    assert "cache-control" in answer.headers
    assert "strict-transport-security" not in answer.headers
    if "text/html" in answer.headers["content-type"]:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.setting("cors_ttl")
async def test_cors_on_auth_follows_the_setting(make_broker: MakeBroker) -> None:
    async with make_broker(cors_ttl="60", allowed_origins="https://site.example") as broker:
        allowed = await broker.browser.get("/auth", headers={"origin": "https://site.example"})
        other = await broker.browser.get("/auth", headers={"origin": "https://other.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://site.example"
    assert allowed.headers["vary"] == other.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in other.headers


async def test_https_is_insisted_on_where_the_public_url_has_it(make_broker: MakeBroker) -> None:
    async with make_broker(public_url="https://login.example") as broker:
        for path in ("/", "/keys.json", "/token", "/nothing"):
            answer = await broker.browser.get(path)
            assert answer.headers["strict-transport-security"] == "max-age=31536000"

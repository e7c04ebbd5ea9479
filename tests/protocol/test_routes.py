"""Which path answers to which method, with which headers, and in which form."""

from __future__ import annotations

from urllib.parse import urlencode

import httpx
import pytest
from tests.protocol.conftest import SITE

BOTH = {"GET", "HEAD", "POST"}
METHODS: dict[str, set[str]] = {
    "/.well-known/openid-configuration": {"GET", "HEAD"},
    "/.well-known/oauth-authorization-server": {"GET", "HEAD"},
    "/keys.json": {"GET", "HEAD"},
    "/auth": BOTH,
    "/confirm": BOTH,
    "/callback": BOTH,
    "/resend": {"POST"},
    "/cancel": {"POST"},
    "/token": {"POST"},
    "/userinfo": BOTH,
    "/normalize": {"POST"},
    "/": {"GET", "HEAD"},
    "/ver.txt": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
    "/nothing/here": {"GET", "HEAD"},
}
OPEN = {
    "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/keys.json", "/token", "/userinfo",
    "/normalize",
}  # fmt: skip


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
def test_path_answers_to_its_methods_and_every_answer_has_its_headers(
    client: httpx.Client, path: str, method: str
) -> None:
    answer = client.request(method, path)
    allowed = METHODS[path]
    if method == "OPTIONS":
        assert answer.status_code == 204
    elif method in allowed:
        assert answer.status_code not in (204, 405)
    else:
        assert answer.status_code == 405
    if method not in allowed:
        assert set(answer.headers["allow"].split(", ")) == {*allowed, "OPTIONS"}
        assert answer.text == ""
    check_headers(answer)
    assert (answer.headers.get("access-control-allow-origin") == "*") == (path in OPEN)


def check_headers(answer: httpx.Response) -> None:
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["permissions-policy"]
    assert headers["referrer-policy"] in ("no-referrer", "strict-origin")
    assert "strict-transport-security" not in headers  # public_url is not https
    assert "x-xss-protection" not in headers
    assert "server" not in headers
    if "text/html" in headers.get("content-type", ""):
        policy = dict(part.partition(" ")[::2] for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert "sandbox" not in policy
    if not headers["cache-control"].startswith("public"):
        assert "no-store" in headers["cache-control"]


@pytest.mark.parametrize("path", sorted(path for path, methods in METHODS.items() if "GET" in methods))
def test_head_has_no_body(client: httpx.Client, path: str) -> None:
    assert client.head(path).content == b""


def test_discovery_document_and_keys_may_be_kept_by_clients_but_not_by_proxies(client: httpx.Client) -> None:
    for path in ("/.well-known/openid-configuration", "/keys.json"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"].startswith("public, max-age=")
        assert answer.headers["cache-control"].endswith(", s-maxage=0")


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("application/json, text/html;q=0.9", True),
        ("text/html;q=0.5, application/json;q=0.6", True),
        ("application/json, */*;q=0.5", True),
        ("application/json; charset=utf-8", True),
        ("text/html, application/json;q=0.9", False),
        ("text/html, application/json", False),
        ("application/json;q=0", False),
        ("*/*", False),
        ("application/*, text/html;q=0.1", False),
        ("", False),
        ("application/jsonp", False),
        ("application/json;q=nan, text/html;q=x", False),
    ],
)
def test_who_prefers_json_to_html_gets_json(client: httpx.Client, accept: str, is_json: bool) -> None:
    answer = client.get("/auth", params=urlencode({"client_id": SITE}), headers={"accept": accept})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/json" if is_json else "text/html")

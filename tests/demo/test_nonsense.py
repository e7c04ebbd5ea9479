"""Nonsense at every endpoint, over real HTTP: told, never a 500, never a redirect to what was not validated."""

from __future__ import annotations

import os
import random
import string
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx
import pytest

if TYPE_CHECKING:
    from tests.demo.conftest import Demo

pytestmark = pytest.mark.timeout(3600 if "FUZZ_REQUESTS" in os.environ else 120)

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2000"))  # 100,000 take ten minutes
SITE = "https://site.example"
PATHS = (
    "/", "/auth",
    "/confirm", "/resend", "/cancel", "/token", "/userinfo", "/callback", "/normalize", "/keys.json",
    "/.well-known/openid-configuration", "/ver.txt", "/metrics", "/static/portier.css", "/nothing",
)  # fmt: skip
NAMES = (
    "client_id", "redirect_uri", "response_type", "response_mode", "scope", "nonce", "state", "login_hint", "prompt",
    "code", "session", "device_ok", "grant_type", "code_verifier", "code_challenge", "code_challenge_method",
    "id_token",
    "error", "request", "ui_locales", "id_token_signing_alg", "response_errors", "access_token", "_login_hint",
)  # fmt: skip
VALUES = (
    "", "x", SITE,
    f"{SITE}/cb", f"{SITE}/cb#f", "https://evil.example", "//evil.example",
    "javascript:alert(1)",
    f"{SITE}@evil.example/", "http://127.0.0.1", "id_token", "code", "token", "fragment", "query", "form_post",
    "openid",
    "openid email", "none", "none login", "1", "A" * 43, "S256", "plain", "authorization_code", "RS256", "EdDSA",
    "person@demo.invalid", "a@b", "@", "\x00", "\r\nx: y", "é" * 50, "🦊", "%00", "true", "false", "A" * 5000,
    "de fr-CA",
    "${jndi:x}", "<script>", "'; --", "{{7*7}}", "../../etc/passwd",
)  # fmt: skip
HEADERS = {
    "accept": ("application/json", "*/*", "text/html;q=0.1,application/json", "q=;;,", "x" * 3000),
    "accept-language": ("fr-CA,de;q=0.5", "*", "x" * 3000, "en;q=nan"),
    "authorization": ("Basic !!!", "Basic Og==", "Bearer x", "Bearer " + "A" * 600, "Digest x"),
    "origin": ("null", "https://evil.example"),
    "x-forwarded-for": ("1.2.3.4", "1.2.3.4, x", ", ,", "::ffff:1.2.3.4, ::1"),
    "traceparent": ("00-0-0-0", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    "cookie": ("login-0=x; __Host-login-0=y", "=;=;", "x" * 3000),
    "content-type": ("application/x-www-form-urlencoded", "application/json", "multipart/form-data", ""),
}


def nonsense(chance: random.Random) -> tuple[str, str, list[tuple[str, str]], dict[str, str]]:
    """Make a request: half of its values belong together, so that it gets far."""
    fields: list[tuple[str, str]] = []
    if chance.random() < 0.6:
        valid = {"client_id": SITE, "redirect_uri": f"{SITE}/cb", "response_type": chance.choice(("code", "id_token"))}
        valid |= {"scope": "openid", "nonce": "n", "response_mode": chance.choice(("query", "fragment", "form_post"))}
        fields += valid.items()
    for _ in range(chance.randrange(6)):
        name = chance.choice(NAMES) if chance.random() < 0.9 else "".join(chance.choices(string.printable, k=8))
        fields.append((name, chance.choice(VALUES)))
    if chance.random() < 0.5:
        fields = list({name: (name, value) for name, value in fields}.values())
    headers = {name: chance.choice(values) for name, values in HEADERS.items() if chance.random() < 0.2}
    method = chance.choice(("GET", "GET", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"))
    return method, chance.choice(PATHS), fields, headers


def test_nonsense_is_told_and_never_breaks_or_redirects_astray(demo: Demo) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    with httpx.Client(base_url=demo.broker, timeout=60) as client:
        for number in range(REQUESTS):
            method, path, fields, headers = nonsense(chance)
            about = f"seed {seed} request {number}: {method} {path} {fields} {headers}"
            if method == "POST":
                headers.setdefault("content-type", "application/x-www-form-urlencoded")
                body = urlencode(fields).encode()
                answer = client.request(method, path, content=body, headers=headers)
            else:
                answer = client.request(method, path, params=urlencode(fields), headers=headers)
            assert answer.status_code < 500 or answer.status_code == 503, f"{about}\n{answer.text}"
            location = answer.headers.get("location", "")
            assert not location or location.startswith((f"{SITE}/cb", "/")), f"{about}\n{location}"
            assert not location.startswith("//"), about
            if "text/html" in answer.headers.get("content-type", ""):
                assert "<script>" not in answer.text, about
                assert f'action="{SITE}/cb"' in answer.text or 'action="http' not in answer.text, about

"""A broker behind a broker: each is an OpenID provider, so the second proves addresses to the first like any other."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

if TYPE_CHECKING:
    from .conftest import MakeStack
    from .stack import Stack

pytestmark = pytest.mark.browser

DOMAIN = "acme.example"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
PORTIER = "https://portier.io/specs/auth/1.0/idp"


@pytest.fixture(scope="module")
def provider(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack() as running:
        yield running


@pytest.fixture(scope="module")
def broker(make_stack: MakeStack, provider: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    config: Path = tmp_path_factory.mktemp("config") / "config.toml"
    config.write_text(f'[domain_overrides]\n"{DOMAIN}" = [{{ rel = "{PORTIER}", href = "{provider.broker}" }}]\n')
    with make_stack(str(config), development="true") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "Chromium is not installed: make system-packages"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Welcome(BaseHTTPRequestHandler):
    """The site: it shows an empty page whatever it is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "15")
        self.end_headers()
        self.wfile.write(b"<!doctype html>")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Welcome) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def authorization_url(broker: Stack, site: str, address: str, **changes: str) -> str:
    request = {
        "client_id": site,
        "redirect_uri": f"{site}/back",
        "response_type": "id_token",
        "response_mode": "fragment",
        "scope": "openid email",
        "nonce": "the nonce",
        "state": "the state",
        "login_hint": address,
        **changes,
    }
    return f"{broker.broker}/auth?{urlencode(request)}"


def answer_at(page: Page, site: str) -> dict[str, str]:
    """Wait until the browser is back at the site; gives what came with it."""
    page.wait_for_url(f"{site}/back#**")
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).fragment).items()}


def test_login_by_another_broker_as_the_identity_provider(
    page: Page, site: str, broker: Stack, provider: Stack
) -> None:
    address = f"Ada.Lovelace@{DOMAIN}"
    page.goto(authorization_url(broker, site, address))
    assert page.url.startswith(f"{provider.broker}/auth?")
    expect(page.locator(".head")).to_contain_text(f"ada.lovelace@{DOMAIN}")
    page.locator("#code").fill(provider.mailbox.wait_for(f"ada.lovelace@{DOMAIN}").code)
    page.keyboard.press("Enter")
    answer = answer_at(page, site)
    assert answer["state"] == "the state"
    assert answer["iss"] == broker.broker
    keys = jwt.PyJWKSet.from_dict(httpx.get(f"{broker.broker}/keys.json").json())
    token = answer["id_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=site, issuer=broker.broker)
    assert claims["email"] == claims["sub"] == f"ada.lovelace@{DOMAIN}"
    assert claims["email_original"] == address
    assert claims["nonce"] == "the nonce"
    assert broker.mailbox.count(f"ada.lovelace@{DOMAIN}") == 0
    assert page.context.cookies() == []  # both logins are over, and so are their cookies


def test_address_typed_at_the_broker_is_proved_by_its_provider(
    page: Page, site: str, broker: Stack, provider: Stack
) -> None:
    page.goto(authorization_url(broker, site, "", response_mode="form_post"))
    page.get_by_label("Your email address").fill(f"eve@{DOMAIN}")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{provider.broker}/auth?**")
    page.goto(provider.mailbox.wait_for(f"eve@{DOMAIN}").link)
    page.wait_for_url(f"{site}/back")


def test_login_that_the_person_cancels_at_the_provider_goes_back_as_an_error(
    page: Page, site: str, broker: Stack, provider: Stack
) -> None:
    page.goto(authorization_url(broker, site, f"bob@{DOMAIN}"))
    assert page.url.startswith(f"{provider.broker}/auth?")
    page.get_by_role("button", name="Cancel").click()
    answer = answer_at(page, site)
    assert answer["error"] == "temporarily_unavailable"
    assert "access_denied" in answer["error_description"]


def test_login_without_interaction_is_refused_by_the_provider_and_that_reaches_the_site(
    page: Page, site: str, broker: Stack
) -> None:
    page.goto(authorization_url(broker, site, f"carol@{DOMAIN}", prompt="none"))
    assert answer_at(page, site)["error"] in ("interaction_required", "login_required")

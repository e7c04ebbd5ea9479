"""A site whose callback leads on to another origin, as single sign-on hubs do, in a browser that keeps to the CSP."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, expect
from tests.person import Person
from tests.stack import Stack

pytestmark = pytest.mark.browser


class Hub(BaseHTTPRequestHandler):
    """The callback leads on, by its other name, to where the person wanted to go."""

    def do_GET(self) -> None:
        host, _, port = self.headers["host"].partition(":")
        self.send_response(303 if host == "localhost" else 200)
        if host == "localhost":
            self.send_header("location", f"http://127.0.0.1:{port}/app")
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>The application</title>")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
@pytest.mark.parametrize("by_link", [True, False])
def test_person_arrives_where_the_callback_leads(
    chromium: Browser, stack: Stack, person: Person, hub: str, mode: str, by_link: bool
) -> None:
    request = {
        "client_id": hub,
        "redirect_uri": f"{hub}/callback",
        "response_type": "id_token",
        "response_mode": mode,
        "scope": "openid",
        "nonce": "n",
        "login_hint": person.address,
    }
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{stack.broker}/auth?{urlencode(request)}")
    mail = stack.mailbox.wait_for(person.address)
    if by_link:
        page.goto(mail.link)
    else:
        page.fill("#code", mail.code)
        page.keyboard.press("Enter")
    expect(page).to_have_title("The application", timeout=30_000)
    context.close()

"""Every page once in every way it can look, and a server that shows it to a browser under the real CSP."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Browser, sync_playwright

from auth_api.pages import ErrorKind, Locale, Notice, Pages

SITE = "https://göteborg.example"
SESSION = "q83vEjRWeJC-_83vEjRWeJCrze8SNFZ4kKvN7xI0Vng"
CODE = "abc134ghi689"
REQUEST = {"client_id": "https://xn--gteborg-90a.example", "nonce": "n", "state": "s", "scope": "openid email"}
ADDRESS = "me@b.example"
LONG_ADDRESS = f"{'l' * 64}@{'d' * 60}.{'e' * 60}.{'f' * 60}.example"

Sample = Callable[[Pages, Locale], str]

SAMPLES: dict[str, Sample] = {
    "login_hint": lambda pages, locale: pages.login_hint(
        locale=locale, site=SITE, parameters=REQUEST | {"_login_hint": "ada@example.com"}
    ),
    "confirm": lambda pages, locale: pages.confirm(
        locale=locale, site=SITE, address="ada@example.com", session=SESSION
    ),
    "confirm_waiting": lambda pages, locale: pages.confirm(
        locale=locale,
        site=SITE,
        address="ada@example.com",
        session=SESSION,
        resend_in=30,
        other_address=REQUEST,
        can_cancel=True,
        notice=Notice.LATE,
    ),
    "confirm_wrong_code": lambda pages, locale: pages.confirm(
        locale=locale,
        site=f"https://{'s' * 63}.{'t' * 63}.example",
        address=LONG_ADDRESS,
        session=SESSION,
        resend_in=0,
        other_address=REQUEST,
        can_cancel=True,
        guesses_left=3,
        notice=Notice.RESENT,
    ),
    "confirm_last_guess": lambda pages, locale: pages.confirm(
        locale=locale,
        site=SITE,
        address="ada@example.com",
        session=SESSION,
        other_address=REQUEST,
        can_cancel=True,
        guesses_left=1,
    ),
    "confirm_resent": lambda pages, locale: pages.confirm(
        locale=locale,
        site=SITE,
        address="ada@example.com",
        session=SESSION,
        resend_in=1,
        other_address=REQUEST,
        can_cancel=True,
        notice=Notice.RESENT,
    ),
    "same_browser": lambda pages, locale: pages.same_browser(
        locale=locale, site=SITE, address=ADDRESS, session=SESSION, code=CODE
    ),
    "other_device": lambda pages, locale: pages.other_device(
        locale=locale, site=SITE, address=ADDRESS, session=SESSION, code=CODE
    ),
    "form_post": lambda pages, locale: pages.form_post(
        locale=locale,
        site=SITE,
        redirect_uri="https://göteborg.example/back?x=1&y=2",
        fields={"state": "s", "code": "c"},
    ),
    "callback": lambda pages, locale: pages.callback(locale=locale, fields={"state": SESSION}),
    "provider_login": lambda pages, locale: pages.provider_login(
        locale=locale, site=SITE, address="ada@example.com", fields={"state": SESSION, "id_token": "a.b.c"}
    ),
    "cancelled": lambda pages, locale: pages.cancelled(locale=locale, site=SITE, site_link="https://göteborg.example/"),
    "came_back": lambda pages, locale: pages.came_back(
        locale=locale, address=LONG_ADDRESS, other_address=REQUEST, site_link="https://göteborg.example/"
    ),
    "refused": lambda pages, locale: pages.came_back(
        locale=locale, address=LONG_ADDRESS, other_address=REQUEST, site_link="https://göteborg.example/", just_now=True
    ),
    "home": lambda pages, locale: pages.home(locale=locale),
    "error_bad_request": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.BAD_REQUEST, description="missing request parameter client_id"
    ),
    "error_provider": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.PROVIDER, description="no keys", try_again="https://göteborg.example/"
    ),
    "error_internal": lambda pages, locale: pages.error(locale=locale, kind=ErrorKind.INTERNAL, reference="k3x9q1"),
    "error_rate_limited": lambda pages, locale: pages.error(locale=locale, kind=ErrorKind.RATE_LIMITED),
    "error_rate_limited_seconds": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.RATE_LIMITED, wait=40, description="too many requests"
    ),
    "error_rate_limited_minutes": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.RATE_LIMITED, wait=601, description="too many requests"
    ),
    "error_too_many_guesses": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.TOO_MANY_GUESSES, try_again="https://göteborg.example/"
    ),
    "error_expired": lambda pages, locale: pages.error(locale=locale, kind=ErrorKind.EXPIRED),
    "error_unavailable": lambda pages, locale: pages.error(locale=locale, kind=ErrorKind.UNAVAILABLE),
    "error_unavailable_retrying": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.UNAVAILABLE, wait=600, try_again="/auth?scope=openid&state=s"
    ),
    "error_unavailable_typed": lambda pages, locale: pages.error(
        locale=locale, kind=ErrorKind.UNAVAILABLE, wait=600, try_again="/confirm", fields={"code": "abcdef123456"}
    ),
    "error_not_found": lambda pages, locale: pages.error(locale=locale, kind=ErrorKind.NOT_FOUND),
}


@pytest.fixture(scope="session")
def pages() -> Pages:
    return Pages()


@pytest.fixture(params=list(Locale))
def locale(request: pytest.FixtureRequest) -> Locale:
    return Locale(request.param)


@pytest.fixture(params=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def html(pages: Pages, locale: Locale, sample: str) -> str:
    return SAMPLES[sample](pages, locale)


@pytest.fixture
def every_page(pages: Pages, locale: Locale) -> dict[str, str]:
    return {name: sample(pages, locale) for name, sample in SAMPLES.items()}


@pytest.fixture
def english_pages(pages: Pages) -> dict[str, str]:
    return {name: sample(pages, Locale.EN) for name, sample in SAMPLES.items()}


@dataclass
class Site:
    """Serves documents at `/page/…`, static files, and takes note of every form and address it is sent."""

    pages: Pages
    documents: dict[str, str] = field(default_factory=dict)
    posts: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    origin: str = ""
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def show(self, html: str, path: str = "/page") -> str:
        """Serve `html` at `path`; the address of it."""
        self.documents[path] = html
        return self.origin + path

    def next_post(self) -> tuple[str, list[tuple[str, str]]]:
        """The first form not yet taken, waiting for it for at most ten seconds."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: bool(self.posts), timeout=10)
            return self.posts.pop(0)

    def wait_for_get(self, path: str) -> None:
        """Wait for at most ten seconds until `path` has been asked for."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: path in self.gets, timeout=10)


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            with site.arrived:
                site.gets.append(self.path)
                site.arrived.notify_all()
            path = self.path.partition("?")[0]
            static = site.pages.static_file(path)
            if static is not None:
                self._answer(200, static.media_type, static.content)
            elif path in site.documents:
                self._answer(200, "text/html; charset=utf-8", site.documents[path].encode())
            else:
                self._answer(404, "text/plain", b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            with site.arrived:
                site.posts.append((self.path, parse_qsl(body, keep_blank_values=True)))
                site.arrived.notify_all()
            self._answer(200, "text/html; charset=utf-8", site.pages.home(locale=Locale.EN).encode())

        def _answer(self, status: int, media_type: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
                "frame-ancestors 'none'; base-uri 'none'",
            )
            self.end_headers()
            self.wfile.write(content)

    return Handler


@pytest.fixture
def site(pages: Pages) -> Iterator[Site]:
    site = Site(pages)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(site)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        site.origin = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
    more_flags = ("--disable-component-update", "--disable-sync", "--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*flags, *more_flags])
        yield browser
        browser.close()

"""Whatever a redirect_uri looks like: nobody is ever sent, and nothing is ever posted, to what was not validated."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from tests.person import answer_of, form_to, forms
from tests.protocol.conftest import SITE
from tests.stack import Stack

CALLBACK = f"{SITE}/callback"
EVIL = "https://evil.example"

HOSTILE = [
    # another site, openly
    f"{EVIL}/", EVIL, f"{EVIL}/callback", f"{EVIL}/{SITE}", f"{EVIL}?{SITE}", f"{EVIL}#{SITE}", f"{EVIL}/?x={SITE}/",
    # a site whose name begins or ends like ours, or hides it before the @
    f"{SITE}.evil.example/", f"{SITE}evil/", f"{SITE}@evil.example/", f"{SITE}:pass@evil.example/",
    f"{SITE}%40evil.example/", f"{SITE}:443@evil.example/", f"{SITE}:80evil.example/", "https://evil-site.example/",
    "https://evil.site.example/", "https://site.example.:443@evil.example", "https://user@site.example/callback",
    "https://user:password@site.example/callback", "https://@site.example/callback", "https://:@site.example/callback",
    # what browsers repair: backslashes, white space, missing and doubled slashes, escapes, full-width characters
    "https:\\\\evil.example/", "https:/\\evil.example/", f"{SITE}\\@evil.example/", f"{SITE}\\.evil.example/",
    "https:evil.example/", "https:/evil.example/", "https:///evil.example/", "////evil.example/", "//evil.example/",
    "/\\evil.example/", "\\\\evil.example/", "/callback", "callback", "?x", "#x", ".", "https://", "https:", "://",
    f" {CALLBACK}", f"{CALLBACK} ", f"\t{CALLBACK}", f"{CALLBACK}\n", f"{CALLBACK}\r\nlocation: {EVIL}",
    "https://site.exam\tple@evil.example/", "ht\ntps://evil.example/", f"\x00{EVIL}", f"{CALLBACK}\x00{EVIL}",
    "https://evil.example%2F@site.example/", "https://site.example%2eevil.example/", "https://site.example%00.evil/",
    "https://ｅvil.example/", "https://site。example/", "https://ѕite.example/", "https://site.example\u2044@evil.example/",
    "https://site.example\uff0fevil.example/", "https://[::1", "https://[site.example]/", "https://site.example]/",
    # the same host written otherwise, or another port or scheme of it
    "HTTPS://site.example/callback", "https://SITE.example/callback", "https://site.example./callback",
    "https://site.example:443/callback", "https://site.example:/callback", "https://site.example:0/callback",
    "https://site.example:0443/callback", "https://site.example:99999/callback", "https://site.example:8443/callback",
    "https://site.example:-1/callback", "https://site.example:443.evil.example/", "http://site.example/callback",
    "http://site.example:443/callback", "https://xn--ite-vlc.example/", "https://site%2Eexample/callback",
    # numbers as hosts
    "http://127.0.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/",
    "http://[::ffff:127.0.0.1]/", "http://[::1]/", "http://169.254.169.254/latest/meta-data/", "http://localhost/",
    # other schemes, and what looks like script
    "javascript:alert(1)", "javascript://site.example/%0aalert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>", "vbscript:x", "file:///etc/passwd", "ftp://site.example/",
    "blob:https://site.example/x", "view-source:https://site.example/", "about:blank", "mailto:a@site.example",
    "app.example:/callback", "intent://site.example/#Intent;scheme=https;end", "wss://site.example/",
    # the right origin, with what would end an attribute, a header or a script
    f'{CALLBACK}"><script>alert(1)</script>', f"{CALLBACK}<", f"{CALLBACK}?x=<>",
    f"{CALLBACK}`", f"{CALLBACK}?x=%", f"{CALLBACK}?x=%zz", f"{CALLBACK}/\u202e", f"{CALLBACK}?x=\xff", f"{CALLBACK}\\",
    f"{CALLBACK}#fragment", f"{CALLBACK}#", f"{CALLBACK}|", f"{CALLBACK}?{{x}}", f"{CALLBACK}?x=^", f"{CALLBACK}/a b",
    f"{CALLBACK}?{'x' * 3000}", SITE.replace("https", "https+x"), "\ud800".encode("utf-8", "replace").decode(), "https://a",
    "https://" + "a." * 200 + "example/", "https://-.example/", "https://..example/", "https://*.example/", "*", "null",
]  # fmt: skip

SITUATIONS: dict[str, dict[str, str | None]] = {
    "valid": {},
    "with an error": {"scope": "email"},
    "with prompt none": {"prompt": "none"},
    "asking for the address": {"login_hint": None},
    "wanting no errors": {"response_errors": "false", "nonce": None},
    "with a request object": {"request": "x"},
}


def check_leads_nowhere(answer: httpx.Response) -> None:
    """No redirect, form, link or policy leads out of the broker."""
    assert answer.status_code in (400, 414)
    assert "location" not in answer.headers
    assert "refresh" not in answer.headers
    assert forms(answer) == []
    assert re.findall(r"http-equiv|<script(?! src=\"/static)", answer.text) == []
    links = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
    assert all(re.match(r"/(?![/\\])", link) for link in links)
    assert "form-action 'self';" in answer.headers["content-security-policy"] + ";"


def request(redirect_uri: str, mode: str, **changes: str | None) -> str:
    given = {
        "client_id": SITE,
        "redirect_uri": redirect_uri,
        "response_type": "id_token",
        "response_mode": mode,
        "scope": "openid",
        "nonce": "n",
        "login_hint": "person@hostile.example",
        **changes,
    }
    return urlencode({name: value for name, value in given.items() if value is not None}, errors="surrogatepass")


def test_there_are_enough_of_them_and_no_two_alike() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 100


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_hostile_redirect_uri_leads_nowhere(client: httpx.Client, mode: str, situation: str) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for number, redirect_uri in enumerate(HOSTILE):
        # Also as the client that it would be: this broker serves SITE alone.
        origin = re.match(r"[a-z]+://[^/?#\\]*", redirect_uri)
        clients = [SITE, redirect_uri] + ([origin[0]] if origin else [])
        for client_id in dict.fromkeys(clients):
            encoded = request(redirect_uri, mode, client_id=client_id, **SITUATIONS[situation])
            if number % 2:
                check_leads_nowhere(client.get("/auth", params=encoded))
            else:
                check_leads_nowhere(client.post("/auth", content=encoded, headers=form))


def test_hostile_redirect_uri_leads_nowhere_where_everybody_is_served(stack: Stack) -> None:
    with httpx.Client(base_url=stack.broker, timeout=60) as client:
        for redirect_uri, mode in itertools.product(HOSTILE, ["query", "form_post"]):
            check_leads_nowhere(client.get("/auth", params=request(redirect_uri, mode)))


def test_hostile_redirect_uri_beside_a_good_one_leads_nowhere(client: httpx.Client) -> None:
    for redirect_uri in HOSTILE:
        for pair in ([CALLBACK, redirect_uri], [redirect_uri, CALLBACK]):
            more = urlencode([("redirect_uri", uri) for uri in pair], errors="surrogatepass")
            without = request("", "query").replace("redirect_uri=&", "")
            check_leads_nowhere(client.get("/auth", params=f"{without}&{more}"))


@pytest.fixture
def begun(client: httpx.Client, new_address: Callable[[], str]) -> Callable[[str], tuple[str, httpx.Response]]:
    def begin(mode: str) -> tuple[str, httpx.Response]:
        address = new_address()
        return address, client.get("/auth", params=request(CALLBACK, mode, login_hint=address))

    return begin


Begun = Callable[[str], tuple[str, httpx.Response]]


def smuggled(fields: dict[str, str], redirect_uri: str) -> dict[str, Any]:
    """The fields of a page, with every name under which a hostile address might be believed."""
    names = ("redirect_uri", "client_id", "return_to", "next", "url", "origin", "state", "iss", "action", "error_uri")
    return {**fields, **dict.fromkeys(names, redirect_uri)}


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
@pytest.mark.parametrize("number", range(0, len(HOSTILE), 12))
def test_code_page_leads_to_the_validated_address_whatever_is_posted_along(
    client: httpx.Client, strict_stack: Stack, begun: Begun, mode: str, number: int
) -> None:
    address, page = begun(mode)
    confirm = form_to("/confirm", page)
    wrong = client.post("/confirm", data=smuggled({**confirm.fields, "code": "wrong"}, HOSTILE[number]))
    assert (wrong.status_code, "location" in wrong.headers) == (403, False)
    assert all(form.action.startswith("/") for form in forms(wrong))
    assert EVIL not in wrong.text
    code = strict_stack.mailbox.wait_for(address).code
    answer = answer_of(client.post("/confirm", data=smuggled({**confirm.fields, "code": code}, HOSTILE[number])))
    assert answer.url.startswith(CALLBACK)
    assert answer.mode == mode
    assert answer.fields.keys() == {"id_token", "iss"}


@pytest.mark.parametrize("mode", ["query", "fragment", "form_post"])
@pytest.mark.parametrize("number", range(0, len(HOSTILE), 12))
def test_cancelling_leads_to_the_validated_address_whatever_is_posted_along(
    client: httpx.Client, begun: Begun, mode: str, number: int
) -> None:
    _, page = begun(mode)
    answer = answer_of(client.post("/cancel", data=smuggled(form_to("/cancel", page).fields, HOSTILE[number])))
    assert answer.url.startswith(CALLBACK)
    assert answer.mode == mode
    assert answer.fields["error"] == "access_denied"


@pytest.mark.parametrize("number", range(0, len(HOSTILE), 12))
def test_page_that_asks_for_the_address_repeats_but_never_follows_what_it_got(
    client: httpx.Client, number: int
) -> None:
    hostile = {"_login_hint": HOSTILE[number], "state": HOSTILE[number].replace("\0", ""), "extra": HOSTILE[number]}
    page = client.get("/auth", params=request(CALLBACK, "query", login_hint=None, **hostile))
    assert page.status_code == 200
    assert [form.action for form in forms(page)] == ["/auth"]
    assert re.findall(r"<script(?! src=\"/static)", page.text) == []
    assert form_to("/auth", page).fields["state"] == hostile["state"]


def test_address_of_the_site_that_looks_like_script_stays_an_address(client: httpx.Client) -> None:
    odd = f"{CALLBACK}'onload='alert(1)?x=(;&amp;"
    answer = answer_of(client.get("/auth", params=request(odd, "form_post", scope="email")))
    assert answer.url == odd

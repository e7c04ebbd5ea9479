"""Every rule of /auth that can be broken, in the contract's order, and where the site or the person hears of it.

Up to the redirect_uri an error is a page here. From there on it goes back to the site in its response mode, unless it
wants no errors. A program that asks for JSON gets JSON, always.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode

import httpx
import pytest
from tests.person import answer_of, forms
from tests.protocol.conftest import LIMIT, SITE
from tests.stack import Stack

CALLBACK = f"{SITE}/callback?kept=1"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
JSON = {"accept": "application/json"}
MODES = ("query", "fragment", "form_post")

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Fault:
    """A request with one fault; None leaves a parameter out, `twice` adds one once more."""

    name: str
    text: str
    changes: Mapping[str, str | None] = field(default_factory=dict)
    twice: tuple[str, str] | None = None
    error: str = "invalid_request"
    state: str | None = "s-1"
    json_text: str | None = None

    def pairs(self, address: str, mode: str, **more: str) -> Pairs:
        given: dict[str, str | None] = {
            "client_id": SITE,
            "redirect_uri": CALLBACK,
            "response_type": "id_token",
            "response_mode": mode,
            "scope": "openid email",
            "nonce": "n-1",
            "state": "s-1",
            "login_hint": address,
            **self.changes,
            **more,
        }
        person = address.partition("@")[0]  # somebody new, or the limit of attempts would come first
        pairs = [(name, value.replace("{person}", person)) for name, value in given.items() if value is not None]
        return [*pairs, self.twice] if self.twice else pairs


def doubled(name: str, value: str = "x", **more: str | None) -> Fault:
    text = f"the request parameter {name} came more than once"
    return Fault(f"{name} twice", text, {name: value, **more}, twice=(name, value))


HERE = [
    *(Fault(f"no {name}", f"missing request parameter {name}", {name: None})
      for name in ("redirect_uri", "client_id", "response_type")),
    *(Fault(f"empty {name}", f"missing request parameter {name}", {name: ""})
      for name in ("redirect_uri", "client_id", "response_type")),
    *(doubled(name, value) for name, value in {
        "redirect_uri": CALLBACK, "client_id": SITE, "response_type": "code", "response_mode": "query",
        "response_errors": "true",
    }.items()),
    Fault("response_errors maybe", "response_errors must be true or false", {"response_errors": "maybe"}),
    Fault("response_type token", "unsupported response_type, must be id_token or code", {"response_type": "token"}),
    Fault("hybrid flow", "unsupported response_type, must be id_token or code", {"response_type": "code id_token"}),
    Fault("response_mode jwt", "unsupported response_mode, must be fragment, form_post or query",
          {"response_mode": "query.jwt"}),
    Fault("redirect_uri of another scheme", "the redirect_uri is not usable", {"redirect_uri": "app://site.example/"}),
    Fault("redirect_uri with fragment", "the redirect_uri is not usable", {"redirect_uri": f"{CALLBACK}#f"}),
    Fault("client_id of another site", "the client_id must be the origin of the redirect_uri",
          {"client_id": "https://other.example"}),
    Fault("site that is not allowed", "the origin of the redirect_uri is not allowed",
          {"client_id": "https://other.example", "redirect_uri": "https://other.example/callback"}),
    Fault("site that is not allowed, with another fault", "the origin of the redirect_uri is not allowed",
          {"client_id": "https://other.example", "redirect_uri": "https://other.example/callback", "scope": "email"}),
]  # fmt: skip

BACK = [
    *(Fault(name, f"the request parameter {name} is not supported", {name: "x"}, error=f"{name}_not_supported")
      for name in ("request", "request_uri", "registration")),
    Fault("no nonce", "missing request parameter nonce", {"nonce": None}),
    Fault("empty nonce", "missing request parameter nonce", {"nonce": ""}),
    Fault("no scope", "unsupported scope, must contain 'openid'", {"scope": None}),
    Fault("scope without openid", "unsupported scope, must contain 'openid'", {"scope": "email OPENID"}),
    Fault("unknown algorithm", "unsupported id_token_signing_alg", {"id_token_signing_alg": "none"}),
    Fault("algorithm that is not configured", "unsupported id_token_signing_alg", {"id_token_signing_alg": "EdDSA"}),
    Fault("prompt none and nobody known", "without a login_hint", {"prompt": "none", "login_hint": None},
          error="login_required", json_text="login_hint is not a valid email address: "),
    Fault("prompt none mixed", "prompt must not mix none with other values", {"prompt": "none login"}),
    Fault("prompt none where a mail is needed", "the person has to read a mail", {"prompt": "none"},
          error="interaction_required"),
    Fault("challenge without method", "unsupported code_challenge_method", {"code_challenge": CHALLENGE}),
    Fault("challenge in plain", "unsupported code_challenge_method",
          {"code_challenge": CHALLENGE, "code_challenge_method": "plain"}),
    Fault("method without challenge", "missing request parameter code_challenge", {"code_challenge_method": "S256"}),
    Fault("challenge too short", "code_challenge must be",
          {"code_challenge": "x" * 42, "code_challenge_method": "S256"}),
    Fault("challenge of other letters", "code_challenge must be",
          {"code_challenge": "+" * 43, "code_challenge_method": "S256"}),
    Fault("no address", "login_hint is not a valid email address: ", {"login_hint": "nobody"}),
    Fault("address of an IP", "login_hint is not a valid email address: ", {"login_hint": "a@[127.0.0.1]"}),
    Fault("blocked domain", "the domain of the email address is blocked", {"login_hint": "{person}@blocked.example"}),
    Fault("domain without mail", "the domain of the email address is invalid",
          {"login_hint": "{person}@nowhere.example"}),
    *(doubled(name) for name in (
        "nonce", "scope", "login_hint", "prompt", "ui_locales", "code_challenge", "code_challenge_method",
        "id_token_signing_alg", "max_age", "display", "acr_values", "claims_locales",
    )),
    Fault("state twice", "the request parameter state came more than once", twice=("state", "other"), state=None),
    Fault("state with NUL", "the request parameter state is not usable text", {"state": "a\0b"}, state=None),
    Fault("nonce too long", "the request parameter nonce is too long", {"nonce": "n" * 1025}),
]  # fmt: skip


def named(faults: list[Fault]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", faults, ids=[fault.name for fault in faults])


def send(client: httpx.Client, method: str, pairs: Pairs, **headers: str) -> httpx.Response:
    encoded = urlencode(pairs)
    if method == "GET":
        return client.get("/auth", params=encoded, headers=headers)
    form = {"content-type": "application/x-www-form-urlencoded"}
    return client.post("/auth", content=encoded, headers=headers | form)


def check_page(answer: httpx.Response, text: str, status: int = 400) -> None:
    """A page here, from which nothing leads to the site."""
    assert answer.status_code == status
    assert "location" not in answer.headers
    assert "<title>Portier – Error</title>" in answer.text
    assert text in unescape(answer.text)
    assert forms(answer) == []
    assert answer.headers["content-security-policy"].endswith("form-action 'self'")
    assert "no-store" in answer.headers["cache-control"]


def check_json(answer: httpx.Response, error: str, text: str, status: int = 400) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told.keys() == {"error", "error_description", "reference"}
    assert (told["error"], told["reference"]) == (error, None)
    assert text in told["error_description"]


@named(HERE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fault_up_to_the_redirect_uri_is_a_page_here(
    client: httpx.Client, new_address: Callable[[], str], fault: Fault, mode: str, method: str
) -> None:
    check_page(send(client, method, fault.pairs(new_address(), mode)), fault.text)


@named(BACK)
@pytest.mark.parametrize("mode", MODES)
def test_fault_from_there_on_goes_back_in_the_response_mode(
    client: httpx.Client, new_address: Callable[[], str], strict_stack: Stack, fault: Fault, mode: str
) -> None:
    response = send(client, "POST" if mode == "query" else "GET", fault.pairs(new_address(), mode))
    answer = answer_of(response)
    begins = CALLBACK + {"query": "&", "fragment": "#", "form_post": ""}[mode]
    assert answer.url.startswith(begins)
    if mode == "form_post":
        assert answer.url == CALLBACK
        assert response.headers["referrer-policy"] == "strict-origin"
    sent = dict(answer.fields)
    assert sent.pop("kept", "1") == "1"
    assert fault.text in sent.pop("error_description")
    expected = {"error": fault.error, "iss": strict_stack.broker} | ({"state": fault.state} if fault.state else {})
    assert sent == expected
    assert "no-store" in response.headers["cache-control"]


@named(BACK)
@pytest.mark.parametrize("mode", MODES)
def test_fault_is_a_page_here_for_a_site_that_wants_no_errors(
    client: httpx.Client, new_address: Callable[[], str], fault: Fault, mode: str
) -> None:
    check_page(send(client, "GET", fault.pairs(new_address(), mode, response_errors="false")), fault.text)


@named([*HERE, *BACK])
@pytest.mark.parametrize("wanted", [{}, {"response_errors": "false"}], ids=["", "no errors"])
def test_fault_is_told_to_a_program_as_json(
    client: httpx.Client, new_address: Callable[[], str], fault: Fault, wanted: dict[str, str]
) -> None:
    more = {} if "response_errors" in fault.changes else wanted
    answer = send(client, "POST", fault.pairs(new_address(), "form_post", **more), **JSON)
    error = "invalid_request" if fault.json_text else fault.error
    check_json(answer, error, fault.json_text or fault.text)


@pytest.mark.parametrize("mode", MODES)
def test_too_many_attempts_are_told_here_and_never_go_back(
    client: httpx.Client, new_address: Callable[[], str], mode: str
) -> None:
    address, plain = new_address(), Fault("none", "")
    for _ in range(LIMIT):
        assert send(client, "GET", plain.pairs(address, mode)).status_code == 200
    page = send(client, "GET", plain.pairs(address, mode))
    assert "too many requests" in page.text
    check_page(page, "There have been too many attempts.", 429)
    program = send(client, "POST", plain.pairs(address, mode), **JSON)
    check_json(program, "access_denied", "too many requests", 429)
    for answer in (page, program):
        assert 0 < int(answer.headers["retry-after"]) <= 3600


@pytest.mark.parametrize("mode", MODES)
def test_cancelled_login_goes_back_as_access_denied(
    client: httpx.Client, new_address: Callable[[], str], strict_stack: Stack, mode: str
) -> None:
    page = send(client, "GET", Fault("none", "").pairs(new_address(), mode))
    [cancel] = [form for form in forms(page) if form.action == "/cancel"]
    answer = answer_of(client.post("/cancel", data=cancel.fields))
    assert answer.url.startswith(CALLBACK)
    assert answer.fields["error"] == "access_denied"
    assert (answer.fields["state"], answer.fields["iss"]) == ("s-1", strict_stack.broker)


def test_cancelled_login_ends_here_for_a_site_that_wants_no_errors(
    client: httpx.Client, new_address: Callable[[], str]
) -> None:
    page = send(client, "GET", Fault("none", "").pairs(new_address(), "query", response_errors="false"))
    [cancel] = [form for form in forms(page) if form.action == "/cancel"]
    answer = client.post("/cancel", data=cancel.fields)
    assert (answer.status_code, "location" in answer.headers, forms(answer)) == (200, False, [])


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 400),
        ("multipart/form-data; boundary=x", b"--x--", 400),
        ("application/x-www-form-urlencoded", b"client_id=%ff", 400),
        ("application/x-www-form-urlencoded", b"client_id=\xff", 400),
        ("application/x-www-form-urlencoded", b"&".join([b"a=b"] * 101), 400),
        ("application/x-www-form-urlencoded", b"state=" + b"x" * 65_536, 413),
    ],
)
def test_body_that_cannot_be_read_is_told_here(
    client: httpx.Client, content_type: str, body: bytes, status: int
) -> None:
    headers = {"content-type": content_type}
    check_page(client.post("/auth", content=body, headers=headers), "Technical description", status)
    check_json(client.post("/auth", content=body, headers=headers | JSON), "invalid_request", "", status)


REFUSED = Fault("address that the mail server refuses", "login_hint is not a valid email address: no mail",
                {"login_hint": "nobody.{person}@protocol.example"})  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_address_that_the_mail_server_refuses_can_be_corrected_here(
    client: httpx.Client, new_address: Callable[[], str], mode: str
) -> None:
    pairs = REFUSED.pairs(new_address(), mode)
    answer = send(client, "GET", pairs)
    assert (answer.status_code, "location" in answer.headers) == (400, False)
    assert "does not take our email" in answer.text
    [form] = forms(answer)
    assert form.action == "/auth"
    assert form.fields["_login_hint"] == dict(pairs)["login_hint"]
    check_json(send(client, "GET", REFUSED.pairs(new_address(), mode), **JSON), "invalid_request", REFUSED.text)

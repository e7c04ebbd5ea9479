"""The JSON protocol of Portier: a program that asks for the code itself, and never shows a page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from tests.person import Person
from tests.stack import BOUND, Stack

SITE = "https://json.example"
REFUSED: dict[str, Any] = {"error": "invalid_request", "reference": None}


@pytest.fixture
def program(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.broker, headers={"accept": "application/json"}, timeout=BOUND) as client:
        yield client


def begin(program: httpx.Client, person: Person, **changes: str) -> httpx.Response:
    request = {
        "client_id": SITE,
        "redirect_uri": f"{SITE}/callback",
        "response_type": "id_token",
        "scope": "openid email",
        "nonce": "n-1",
        "state": "s-1",
        "login_hint": person.address,
        **changes,
    }
    return program.post("/auth", data=request)


def session_and_code(program: httpx.Client, person: Person, stack: Stack, **changes: str) -> dict[str, str]:
    answer = begin(program, person, **changes)
    assert answer.status_code == 200
    told = answer.json()
    assert told.keys() == {"result", "session"}
    assert told["result"] == "verification_code_sent"
    mail = stack.mailbox.wait_for(person.address)
    assert mail.session == told["session"]
    return {"session": told["session"], "code": mail.code}


def test_program_logs_in_with_the_code(program: httpx.Client, person: Person, stack: Stack) -> None:
    answer = program.post("/confirm", data={**session_and_code(program, person, stack), "device_ok": "1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert (told.keys(), told["state"]) == ({"id_token", "state"}, "s-1")
    keys = jwt.PyJWKSet.from_dict(program.get("/keys.json").json())
    key = keys[jwt.get_unverified_header(told["id_token"])["kid"]].key
    claims = jwt.decode(told["id_token"], key, algorithms=["RS256"], audience=SITE, issuer=stack.broker)
    assert (claims["email"], claims["nonce"]) == (person.address, "n-1")


def test_program_gets_a_code_where_it_asked_for_one(program: httpx.Client, person: Person, stack: Stack) -> None:
    login = session_and_code(program, person, stack, response_type="code")
    told = program.post("/confirm", data={**login, "device_ok": "1"}).json()
    assert (told.keys(), told["state"]) == ({"code", "state"}, "s-1")
    form = {"grant_type": "authorization_code", "code": told["code"], "redirect_uri": f"{SITE}/callback"}
    assert "id_token" in program.post("/token", data=form).json()


def test_wrong_code_is_told_and_the_right_one_still_works(program: httpx.Client, person: Person, stack: Stack) -> None:
    login = session_and_code(program, person, stack)
    wrong = program.post("/confirm", data={**login, "code": "aaaaaa bbbbbb", "device_ok": "1"})
    assert (wrong.status_code, wrong.json()) == (403, {"result": "incorrect_code"})
    assert program.post("/confirm", data={**login, "device_ok": "1"}).status_code == 200


def test_device_that_nobody_vouches_for_is_told_and_nothing_is_consumed(
    program: httpx.Client, person: Person, stack: Stack
) -> None:
    login = session_and_code(program, person, stack)
    program.cookies.clear()  # a program without the cookie, and without the field
    for answer in (program.get("/confirm", params=login), program.post("/confirm", data=login)):
        assert (answer.status_code, answer.json()) == (403, {"result": "unverified_device"})
    assert program.post("/confirm", data={**login, "device_ok": "1"}).status_code == 200


def test_session_that_is_over_or_unknown_has_expired(program: httpx.Client, person: Person, stack: Stack) -> None:
    login = session_and_code(program, person, stack)
    assert program.post("/confirm", data={**login, "device_ok": "1"}).status_code == 200
    for session in (login["session"], "A" * 43, "x"):
        answer = program.post("/confirm", data={**login, "session": session, "device_ok": "1"})
        assert answer.status_code == 400
        assert answer.json() == {**REFUSED, "error_description": "The session has expired."}


@pytest.mark.parametrize("left_out", ["session", "code"])
def test_confirm_says_what_is_missing(program: httpx.Client, left_out: str) -> None:
    fields = {name: "A" * 43 for name in ("session", "code") if name != left_out}
    answer = program.post("/confirm", data=fields)
    assert answer.status_code == 400
    expected = {"error": "temporarily_unavailable", "error_description": f"missing request parameter {left_out}"}
    assert answer.json() == {**expected, "reference": None}


def test_errors_that_would_go_back_are_told_to_the_program(program: httpx.Client, person: Person) -> None:
    answer = begin(program, person, scope="email")
    assert answer.status_code == 400
    assert answer.json() == {**REFUSED, "error_description": "unsupported scope, must contain 'openid'"}


def test_program_must_say_who_logs_in(program: httpx.Client, person: Person) -> None:
    answer = begin(program, person, login_hint="")
    assert answer.status_code == 400
    assert answer.json()["error_description"].startswith("login_hint is not a valid email address: ")


def test_code_can_be_mailed_again_to_the_program_that_keeps_its_cookie(
    program: httpx.Client, person: Person, stack: Stack
) -> None:
    login = session_and_code(program, person, stack)
    deadline = time.monotonic() + BOUND
    while (told := program.post("/resend", data={"session": login["session"]}).json())["result"] == "wait":
        assert time.monotonic() < deadline
        time.sleep(0.1)  # the broker makes people wait a second here
    assert told == {"result": "verification_code_sent", "session": login["session"]}
    assert program.post("/confirm", data={**login, "device_ok": "1"}).status_code == 200


def test_login_can_be_cancelled(program: httpx.Client, person: Person, stack: Stack) -> None:
    login = session_and_code(program, person, stack)
    answer = program.post("/cancel", data={"session": login["session"]})
    assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")
    assert program.post("/confirm", data={**login, "device_ok": "1"}).json()["error_description"].endswith("expired.")


def test_many_addresses_are_normalised_in_one_request(program: httpx.Client) -> None:
    answer = program.post("/normalize", content="Foo+Bar@EXAMPLE.com\nnobody\nBJÖRN@göteborg.test\n".encode())
    assert answer.text == "foo+bar@example.com\n\nbjörn@xn--gteborg-90a.test\n"

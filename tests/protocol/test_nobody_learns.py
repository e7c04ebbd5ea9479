"""Nobody learns from an answer whether an address is known, was used before, or is in use at this moment.

The broker keeps no list of people, so there is little to learn; what is there (a login in flight) must not show.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from tests.person import form_to
from tests.stack import BOUND, Stack

SITE = "https://site.example"
UNKNOWN = "A" * 43

Seen = tuple[int, dict[str, str], str]


@pytest.fixture
def browser(strict_stack: Stack) -> Callable[[], httpx.Client]:
    return lambda: httpx.Client(base_url=strict_stack.broker, timeout=BOUND)


def begin(client: httpx.Client, address: str, **headers: str) -> httpx.Response:
    request = {
        "client_id": SITE,
        "redirect_uri": f"{SITE}/callback",
        "response_type": "id_token",
        "scope": "openid",
        "nonce": "n",
        "login_hint": address,
    }
    return client.post("/auth", data=request, headers=headers)


def seen(answer: httpx.Response, **own: str) -> Seen:
    """What an answer shows, apart from the values of this very login."""
    text = answer.text
    for name, value in own.items():
        text = text.replace(value, f"<{name}>")
    varying = {"date", "content-length", "set-cookie"}
    headers = {name: value for name, value in answer.headers.items() if name not in varying}
    headers["cookies"] = str(len(answer.headers.get_list("set-cookie")))
    return answer.status_code, headers, text


def session_of(page: httpx.Response) -> str:
    return form_to("/confirm", page).fields["session"]


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_address_with_a_login_in_flight_a_used_one_and_a_new_one_look_alike(
    strict_stack: Stack, browser: Callable[[], httpx.Client], new_address: Callable[[], str], accept: str
) -> None:
    in_flight, used, new = new_address(), new_address(), new_address()
    with browser() as first, browser() as second, browser() as somebody:
        begin(first, in_flight)
        page = begin(second, used)
        code = strict_stack.mailbox.wait_for(used).code
        done = second.post("/confirm", data={**form_to("/confirm", page).fields, "code": code})
        assert done.status_code == 303
        looks = []
        for address in (in_flight, used, new):
            answer = begin(somebody, address, accept=accept)
            is_json = accept == "application/json"
            session = answer.json()["session"] if is_json else session_of(answer)
            looks.append(seen(answer, session=session, address=address))
    assert looks[0] == looks[1] == looks[2]


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("path", ["/resend", "/cancel"])
def test_others_cannot_tell_a_login_in_flight_from_none(
    browser: Callable[[], httpx.Client], new_address: Callable[[], str], path: str, accept: str
) -> None:
    headers = {"accept": accept}
    with browser() as first, browser() as somebody:
        session = session_of(begin(first, new_address()))
        theirs = somebody.post(path, data={"session": session}, headers=headers)
        nobodys = somebody.post(path, data={"session": UNKNOWN}, headers=headers)
        assert seen(theirs) == seen(nobodys)
        assert theirs.status_code == 400
        assert first.post("/resend", data={"session": session}).status_code == 200  # and nothing happened to it


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_login_that_is_over_looks_like_one_that_never_was(
    strict_stack: Stack, browser: Callable[[], httpx.Client], new_address: Callable[[], str], accept: str
) -> None:
    address = new_address()
    with browser() as client:
        fields = form_to("/confirm", begin(client, address)).fields
        fields["code"] = strict_stack.mailbox.wait_for(address).code
        assert client.post("/confirm", data=fields).status_code == 303
        looks = [
            seen(client.post("/confirm", data={**fields, "session": session, "code": code}, headers={"accept": accept}))
            for session in (fields["session"], UNKNOWN, "x", "\N{SNOWMAN}")
            for code in (fields["code"], "aaaaaabbbbbb")
        ]
    assert all(look == looks[0] for look in looks)
    assert looks[0][0] == 400


def test_wrong_codes_look_alike_whatever_they_are(
    browser: Callable[[], httpx.Client], new_address: Callable[[], str]
) -> None:
    with browser() as client:
        looks = []
        for code in ("aaaaaabbbbbb", "x" * 5000, "\N{SNOWMAN}"):
            fields = form_to("/confirm", begin(client, address := new_address())).fields
            answer = client.post("/confirm", data={**fields, "code": code})
            looks.append(seen(answer, session=fields["session"], address=address))
    assert looks[0] == looks[1] == looks[2]
    assert looks[0][0] == 403

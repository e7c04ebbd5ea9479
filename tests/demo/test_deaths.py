"""kill -9 in the middle of a login: the login goes on. And what is left behind tells nothing about the person."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

if TYPE_CHECKING:
    from tests.demo.conftest import Demo

pytestmark = pytest.mark.timeout(180)

SITE = "https://site.example"


def begin(demo: Demo, address: str, wait_until: Callable[..., Any]) -> str:
    """Begin a login as a JSON client; gives the session."""
    form = {
        "client_id": SITE,
        "redirect_uri": f"{SITE}/cb",
        "response_type": "id_token",
        "nonce": "n",
        "scope": "openid email",
        "login_hint": address,
    }

    def post() -> str | None:
        answer = httpx.post(f"{demo.broker}/auth", data=form, headers={"accept": "application/json"}, timeout=30)
        return str(answer.json()["session"]) if answer.status_code == 200 else None

    session: str = wait_until(post)
    return session


def confirm(demo: Demo, session: str, code: str, wait_until: Callable[..., Any]) -> str:
    """Confirm it, trying again while a service is away; gives the ID token."""

    def post() -> str | None:
        data = {"session": session, "code": code, "device_ok": "1"}
        answer = httpx.post(f"{demo.broker}/confirm", data=data, headers={"accept": "application/json"}, timeout=30)
        assert answer.status_code in (200, 503), answer.text
        token: str | None = answer.json().get("id_token")
        return token

    token: str = wait_until(post)
    return token


def test_auth_api_killed_after_the_mail_went_out(demo: Demo, wait_until: Callable[..., Any]) -> None:
    session = begin(demo, "a@demo.invalid", wait_until)
    code, _ = demo.code_and_link("a@demo.invalid")
    demo.kill("auth-api")
    assert confirm(demo, session, code, wait_until)


def test_key_rotator_killed_in_the_middle(demo: Demo, wait_until: Callable[..., Any]) -> None:
    session = begin(demo, "b@demo.invalid", wait_until)
    demo.kill("key-rotator")
    code, _ = demo.code_and_link("b@demo.invalid")
    assert confirm(demo, session, code, wait_until)


def test_mailer_killed_with_the_mail_in_its_hand(demo: Demo, wait_until: Callable[..., Any]) -> None:
    mailer = demo.pid("mailer")
    os.kill(mailer, signal.SIGSTOP)
    session = begin(demo, "c@demo.invalid", wait_until)
    os.kill(mailer, signal.SIGKILL)
    code, _ = demo.code_and_link("c@demo.invalid")
    assert confirm(demo, session, code, wait_until)


def test_all_three_killed_at_once(demo: Demo, wait_until: Callable[..., Any]) -> None:
    session = begin(demo, "d@demo.invalid", wait_until)
    code, _ = demo.code_and_link("d@demo.invalid")
    for name in ("auth-api", "mailer", "key-rotator"):
        demo.kill(name)
    assert confirm(demo, session, code, wait_until)


def test_logs_tell_the_login_but_neither_person_nor_secret(demo: Demo, wait_until: Callable[..., Any]) -> None:
    address = "very.private@demo.invalid"
    session = begin(demo, address, wait_until)
    code, link = demo.code_and_link(address)
    token = confirm(demo, session, code, wait_until)
    wait_until(lambda: demo.log.read_text().count('"event": "login_completed"') or None)
    text = demo.log.read_text()
    for secret in (address, "very.private", code, code.replace(" ", ""), session, token, link):
        assert secret not in text
    begun = [line for line in text.splitlines() if '"event": "login_begun"' in line]
    short = re.findall(r'"login": "([0-9a-f]{10})"', begun[-1])[0]
    story = [line for line in text.splitlines() if short in line]
    assert {"auth-api", "mailer"} <= {name for line in story for name in re.findall(r'"service": "([a-z-]+)"', line)}


def test_link_as_mailed_is_complete(demo: Demo, wait_until: Callable[..., Any]) -> None:
    session = begin(demo, "e@demo.invalid", wait_until)
    code, link = demo.code_and_link("e@demo.invalid")
    assert dict(parse_qsl(urlsplit(link).query)) == {"session": session, "code": code.replace(" ", "")}

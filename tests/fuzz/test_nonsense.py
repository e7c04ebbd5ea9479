"""Nonsense at every endpoint, by every method: answered, never with a 500, never with a redirect astray.

`make test` sends a few thousand requests, `make fuzz` a hundred thousand (FUZZ_REQUESTS).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.conftest import MakeStack
from tests.fuzz.nonsense import CALLBACK, SITE, Request, requests
from tests.fuzz.wire import Answer, Wire
from tests.stack import Stack

IN_ALL = int(os.environ.get("FUZZ_REQUESTS", "2000"))
IN_A_ROW = 10  # requests of one hypothesis example, one login between them

pytestmark = pytest.mark.timeout(300 + IN_ALL // 10)

STATUSES = {200, 204, 303, 304, 400, 401, 403, 404, 405, 413, 414, 429}
HEADERS_OF_ALL = ("x-content-type-options", "referrer-policy", "cache-control", "permissions-policy")


@dataclass
class Target:
    """The broker that is asked, and what it has answered so far."""

    stack: Stack
    wire: Wire
    answers: Counter[str] = field(default_factory=Counter)
    logins: int = 0

    def login(self) -> dict[str, str]:
        """Log somebody new in up to the code, and somebody else whole; gives what can be presented then."""
        self.logins += 1
        program = {"accept": "application/json"}
        login = {}
        with httpx.Client(base_url=self.stack.broker, headers=program, timeout=60) as client:
            for whose in ("first", "second"):
                address = f"{whose}{self.logins}@fuzz.example"
                request = {"client_id": SITE, "redirect_uri": CALLBACK, "response_type": "code", "scope": "openid"}
                session = client.post("/auth", data={**request, "login_hint": address}).json()["session"]
                code = self.stack.mailbox.wait_for(address).code.replace(" ", "")
                if whose == "first":
                    login = {"session": session, "code": code}
                    continue
                done = client.post("/confirm", data={"session": session, "code": code, "device_ok": "1"})
                form = {"grant_type": "authorization_code", "code": done.json()["code"], "redirect_uri": CALLBACK}
                login |= {"auth_code": form["code"]}
                if self.logins % 2:
                    login["access_token"] = client.post("/token", data=form).json()["access_token"]
        return login


@pytest.fixture(scope="module")
def target(make_stack: MakeStack) -> Iterator[Target]:
    generous = {"wrong_codes_per_network": "10000000", "cors_ttl": "60", "mails_per_address": "10000000"}
    with make_stack(signing_algs="RS256,EdDSA", **generous) as stack:
        parts = urlsplit(stack.broker)
        wire = Wire(parts.hostname or "", parts.port or 0)
        yield Target(stack, wire)
        wire.close()


def check(answer: Answer, request: Request) -> None:
    """What holds for every answer."""
    assert answer.status in STATUSES, answer
    if request.odd is not None:
        return
    for name in HEADERS_OF_ALL:
        assert name in answer.headers
    location = answer.headers.get("location")
    if location is not None:
        assert answer.status == 303
        assert location.startswith(CALLBACK)
        assert re.fullmatch(r"[\x21-\x7e]+", location)
    if "text/html" in answer.headers.get("content-type", ""):
        check_page(answer)
    if request.method == "HEAD":
        assert answer.body == b""
    for trace in ("Traceback", "auth_api", "redis", "jinja2"):
        assert trace not in answer.text


def check_page(answer: Answer) -> None:
    """Nothing that came in has become markup, and every form leads here or to the site."""
    assert re.findall(r"<(?:script(?! src=\"/static/)|img src=x)", answer.text) == []
    for action in re.findall(r'action="([^"]*)"', answer.text):
        assert action.startswith(CALLBACK) or re.match(r"/[a-z]+$", action), action
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@settings(
    max_examples=max(1, IN_ALL // IN_A_ROW),
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(row=st.lists(requests(), min_size=IN_A_ROW, max_size=IN_A_ROW), with_login=st.integers(0, 3))
def test_nonsense_is_answered_and_breaks_nothing(target: Target, row: list[Request], with_login: int) -> None:
    login = target.login() if with_login == 0 else {}
    for request in row:
        octets = request.encode(login)
        if request.odd is None:
            answer: Answer | None = target.wire.ask(octets, request.method)
        else:
            answer = target.wire.tell(octets, cut=request.cut)
        target.answers["hung up" if answer is None else str(answer.status)] += 1
        if answer is not None:
            check(answer, request)


def test_broker_is_the_same_afterwards(target: Target) -> None:
    print(f"answers: {dict(sorted(target.answers.items()))}, logins: {target.logins}")
    assert {"session", "code", "auth_code"} <= target.login().keys()
    log = target.stack.log.read_text(errors="replace")
    for sign in ("unexpected_error", "Traceback", "child_died"):
        assert sign not in log

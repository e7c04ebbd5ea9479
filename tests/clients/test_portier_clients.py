"""Portier's own clients, as published: the Node client by its own tester, and the Python one."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import httpx
import pytest
from tests.clients.conftest import Script
from tests.person import Person
from tests.stack import Stack

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks setuptools for its version, in a way that those regret
    from portier import get_verified_email

TESTER = "node_modules/portier/client-tester.js"
TESTERS_SITE = "http://imaginary-client.test"
SITE = "https://python.example"


class ClientTester:
    """The client-tester protocol of Portier's clients: tab-separated lines, `auth` and `verify`."""

    def __init__(self, script: Script) -> None:
        self._script = script
        assert script.line("echo\thello") == "ok\thello"

    def auth(self, address: str) -> str:
        return self._ok(self._script.line(f"auth\t{address}"))

    def verify(self, token: str) -> str:
        return self._ok(self._script.line(f"verify\t{token}"))

    def complaint(self, token: str) -> str:
        """Let it verify what it must refuse; gives its words."""
        outcome, _, words = self._script.line(f"verify\t{token}").partition("\t")
        assert outcome == "err"
        return words

    def _ok(self, line: str) -> str:
        outcome, _, result = line.partition("\t")
        assert outcome == "ok", line
        return result


@pytest.fixture
def tester(node: Callable[..., Script], stack: Stack) -> ClientTester:
    return ClientTester(node(TESTER, stack.broker))


def test_node_client_logs_in_by_form_post(tester: ClientTester, person: Person) -> None:
    answer = person.log_in(tester.auth(person.address))
    assert (answer.mode, answer.url) == ("form_post", f"{TESTERS_SITE}/fake-verify-route")
    assert tester.verify(answer.fields["id_token"]) == person.address


def test_node_client_gets_the_normalised_address_of_what_was_typed(
    tester: ClientTester, person: Person, stack: Stack
) -> None:
    answer = person.log_in(tester.auth(person.address.upper()))
    assert tester.verify(answer.fields["id_token"]) == person.address
    assert stack.mailbox.count(person.address) == 1


def test_node_client_accepts_a_token_once_and_for_its_own_nonce(
    tester: ClientTester, node: Callable[..., Script], stack: Stack, person: Person
) -> None:
    token = person.log_in(tester.auth(person.address)).fields["id_token"]
    assert "nonce" in ClientTester(node(TESTER, stack.broker)).complaint(token)
    assert tester.verify(token) == person.address
    assert "nonce" in tester.complaint(token)


def test_node_client_takes_a_code_redeemed_as_text(tester: ClientTester, person: Person, stack: Stack) -> None:
    # Portier's end-to-end tests have a site that does so: its `fetch` calls a string `text/plain`.
    url = tester.auth(person.address).replace("response_type=id_token", "response_type=code")
    answer = person.log_in(url.replace("response_mode=form_post", ""))
    assert answer.mode == "query"
    redirect_uri = f"{TESTERS_SITE}/fake-verify-route"
    body = f"grant_type=authorization_code&code={answer.fields['code']}&redirect_uri={redirect_uri}"
    headers = {"content-type": "text/plain;charset=UTF-8"}
    tokens = httpx.post(f"{stack.broker}/token", content=body, headers=headers).json()
    assert tester.verify(tokens["id_token"]) == person.address


@pytest.mark.parametrize(("scope", "logs_in"), [("openid", True), ("email", False)])
def test_scope_email_may_be_left_out_but_openid_may_not(
    tester: ClientTester, person: Person, scope: str, logs_in: bool
) -> None:
    url = tester.auth(person.address).replace("scope=openid%20email", f"scope={scope}")
    answer = person.log_in(url) if logs_in else person.turned_back(url)
    if logs_in:
        assert tester.verify(answer.fields["id_token"]) == person.address
    else:
        assert answer.fields["error_description"] == "unsupported scope, must contain 'openid'"


class Cache(dict[str, object]):
    """What portier-python keeps nonces and keys in."""

    def set(self, name: str, value: object, _seconds: int) -> None:
        self[name] = value

    def delete(self, name: str) -> None:
        del self[name]


def test_python_client_verifies_what_the_broker_signs(person: Person, stack: Stack) -> None:
    cache = Cache()
    cache.set("portier:nonce:n-1", "/after-login", 60)
    url = httpx.URL(
        f"{stack.broker}/auth",
        params={
            "login_hint": person.address,
            "scope": "openid email",
            "nonce": "n-1",
            "response_type": "id_token",
            "response_mode": "form_post",
            "client_id": SITE,
            "redirect_uri": f"{SITE}/verify",
        },
    )
    token = person.log_in(str(url)).fields["id_token"]
    with pytest.raises(ValueError, match="Invalid JWT"):
        get_verified_email(stack.broker, token, "https://other.example", stack.broker, cache)
    assert get_verified_email(stack.broker, token, SITE, stack.broker, cache) == (person.address, "/after-login")
    with pytest.raises(ValueError, match="nonce"):
        get_verified_email(stack.broker, token, SITE, stack.broker, cache)

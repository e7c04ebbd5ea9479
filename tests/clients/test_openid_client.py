"""npm openid-client, certified for OpenID Connect, in two major versions: it logs in, and notices attacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.clients.conftest import NoticedError, Script
from tests.person import Person
from tests.stack import Stack

SITE = "https://site.example"
CALLBACK = f"{SITE}/callback"
VERSIONS = ("openid_client.mjs", "openid_client_5.mjs")

pytestmark = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def start(node: Callable[..., Script], stack: Stack, version: str) -> Callable[..., Script]:
    def discovered(response_type: str = "code", authentication: str = "none", alg: str | None = None) -> Script:
        script = node(version)
        script.call(
            "discover",
            issuer=stack.broker,
            clientId=SITE,
            authentication=authentication,
            responseType=response_type,
            alg=alg,
        )
        return script

    return discovered


def begin(client: Script, person: Person, **more: object) -> tuple[str, str]:
    """Let the client begin a login; gives its state and where it sends the person."""
    begun = client.call("begin", redirectUri=CALLBACK, login_hint=person.address, **more)
    return begun["state"], begun["url"]


def check(claims: dict[str, Any], person: Person) -> None:
    assert claims["email"] == claims["sub"] == claims["email_original"] == person.address
    assert claims["email_verified"] is True
    assert claims["aud"] == SITE


@pytest.mark.parametrize("pkce", [True, False])
@pytest.mark.parametrize("authentication", ["none", "client_secret_basic", "client_secret_post"])
def test_code_flow_logs_in_and_userinfo_agrees(
    start: Callable[..., Script], person: Person, authentication: str, pkce: bool
) -> None:
    client = start(authentication=authentication)
    state, url = begin(client, person, pkce=pkce)
    answer = person.log_in(url)
    assert answer.url.startswith(f"{CALLBACK}?")
    result = client.call("finishCode", state=state, url=answer.url)
    check(result["claims"], person)
    assert result["userinfo"] == {"sub": person.address, "email": person.address, "email_verified": True}


def test_id_token_comes_by_form_post(start: Callable[..., Script], person: Person) -> None:
    client = start("id_token")
    state, url = begin(client, person, response_type="id_token", response_mode="form_post")
    answer = person.log_in(url)
    assert (answer.mode, answer.url) == ("form_post", CALLBACK)
    check(client.call("finishFormPost", state=state, url=answer.url, fields=answer.fields), person)


def test_id_token_comes_in_the_fragment(start: Callable[..., Script], person: Person) -> None:
    client = start("id_token")
    state, url = begin(client, person, response_type="id_token")
    answer = person.log_in(url)
    assert answer.url.startswith(f"{CALLBACK}#")
    check(client.call("finishFragment", state=state, url=answer.url), person)


def test_eddsa_is_used_where_the_client_insists_on_it(start: Callable[..., Script], person: Person) -> None:
    client = start(alg="EdDSA")
    state, url = begin(client, person, pkce=True, id_token_signing_alg="EdDSA")
    check(client.call("finishCode", state=state, url=person.log_in(url).url)["claims"], person)


def test_client_that_insists_on_eddsa_notices_rs256(start: Callable[..., Script], person: Person) -> None:
    client = start(alg="EdDSA")
    state, url = begin(client, person, pkce=True)
    with pytest.raises(NoticedError, match="alg"):
        client.call("finishCode", state=state, url=person.log_in(url).url)


def test_code_of_another_login_is_noticed_by_its_nonce(
    start: Callable[..., Script], new_person: Callable[[], Person]
) -> None:
    client, victim, attacker = start(), new_person(), new_person()
    state, url = begin(client, victim)
    theirs = victim.log_in(url).fields
    other = attacker.log_in(begin(client, attacker)[1]).fields
    injected = urlencode({**theirs, "code": other["code"]})
    with pytest.raises(NoticedError, match="nonce"):
        client.call("finishCode", state=state, url=f"{CALLBACK}?{injected}")


def test_id_token_of_another_login_is_noticed_by_its_nonce(
    start: Callable[..., Script], new_person: Callable[[], Person]
) -> None:
    client, victim, attacker = start("id_token"), new_person(), new_person()
    mode = {"response_type": "id_token", "response_mode": "form_post"}
    state, url = begin(client, victim, **mode)
    theirs = victim.log_in(url).fields
    other = attacker.log_in(begin(client, attacker, **mode)[1]).fields
    injected = {**theirs, "id_token": other["id_token"]}
    with pytest.raises(NoticedError, match="nonce"):
        client.call("finishFormPost", state=state, url=CALLBACK, fields=injected)


@pytest.mark.parametrize("change", [{"iss": "https://other.example"}, {"iss": None}])
def test_answer_that_names_another_issuer_or_none_is_noticed(
    start: Callable[..., Script], person: Person, change: dict[str, str | None]
) -> None:
    client = start()
    state, url = begin(client, person, pkce=True)
    fields = {name: value for name, value in {**person.log_in(url).fields, **change}.items() if value is not None}
    with pytest.raises(NoticedError, match="iss"):
        client.call("finishCode", state=state, url=f"{CALLBACK}?{urlencode(fields)}")


def test_cancelled_login_arrives_as_access_denied(start: Callable[..., Script], person: Person) -> None:
    client = start()
    state, url = begin(client, person, pkce=True)
    with pytest.raises(NoticedError, match="access_denied"):
        client.call("finishCode", state=state, url=person.cancel(url).url)


def test_code_presented_twice_is_refused_the_second_time(start: Callable[..., Script], person: Person) -> None:
    client = start()
    state, url = begin(client, person, pkce=True)
    answer = person.log_in(url)
    client.call("finishCode", state=state, url=answer.url)
    with pytest.raises(NoticedError, match="invalid_grant"):
        client.call("finishCode", state=state, url=answer.url)

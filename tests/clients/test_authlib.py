"""Authlib: a site built with it logs people in by code and PKCE, and notices what is not for it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from authlib import deprecate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.person import Person
from tests.stack import Stack

with warnings.catch_warnings():
    warnings.simplefilter("ignore", deprecate.AuthlibDeprecationWarning)  # it would like httpx2 better
    from authlib.integrations.httpx_client import OAuth2Client
    from authlib.integrations.starlette_client import OAuth

SITE = "https://authlib.example"
CALLBACK = f"{SITE}/callback"


class OneSession:
    """Starlette's session, for the one browser that this site has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._session: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"] = self._session
        await self._app(scope, receive, send)


def site(stack: Stack, authentication: str) -> ASGIApp:
    """A site as Authlib's documentation has it."""
    client = OAuth().register(
        "portier",
        client_id=SITE,
        client_secret=None if authentication == "none" else "a secret: that nobody/checks",
        server_metadata_url=f"{stack.broker}/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid email",
            "code_challenge_method": "S256",
            "token_endpoint_auth_method": authentication,
            "trust_env": False,
        },
    )

    async def login(request: Request) -> Response:
        response: Response = await client.authorize_redirect(request, CALLBACK, **request.query_params)
        return response

    async def callback(request: Request) -> Response:
        token = await client.authorize_access_token(request)
        return JSONResponse({"claims": dict(token["userinfo"]), "userinfo": dict(await client.userinfo(token=token))})

    return OneSession(Starlette(routes=[Route("/login", login), Route("/callback", callback)]))


@contextlib.asynccontextmanager
async def visiting(stack: Stack, authentication: str = "none") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(site(stack, authentication))
    async with httpx.AsyncClient(transport=transport, base_url=SITE, timeout=60) as visitor:
        yield visitor


async def begin(visitor: httpx.AsyncClient, person: Person) -> str:
    """Press the site's button; gives where it leads."""
    location: str = (await visitor.get("/login", params={"login_hint": person.address})).headers["location"]
    return location


@pytest.mark.parametrize("authentication", ["none", "client_secret_basic", "client_secret_post"])
async def test_site_logs_in_by_code_and_pkce(stack: Stack, person: Person, authentication: str) -> None:
    async with visiting(stack, authentication) as visitor:
        url = await begin(visitor, person)
        assert {"code_challenge", "nonce", "state"} <= dict(parse_qsl(urlsplit(url).query)).keys()
        result = (await visitor.get(person.log_in(url).url)).json()
    assert result["claims"]["email"] == result["claims"]["sub"] == result["userinfo"]["email"] == person.address
    assert result["claims"]["iss"] == stack.broker
    assert "at_hash" in result["claims"]


async def test_code_of_another_login_is_refused_by_its_challenge(
    stack: Stack, new_person: Callable[[], Person]
) -> None:
    async with visiting(stack) as visitor, visiting(stack) as attackers:
        victim, attacker = new_person(), new_person()
        theirs = victim.log_in(await begin(visitor, victim)).fields
        other = attacker.log_in(await begin(attackers, attacker)).fields
        with pytest.raises(Exception, match="invalid_grant"):
            await visitor.get(f"{CALLBACK}?{urlencode({**theirs, 'code': other['code']})}")


async def test_answer_to_a_login_that_did_not_begin_here_is_noticed(stack: Stack, person: Person) -> None:
    async with visiting(stack) as visitor, visiting(stack) as elsewhere:
        answer = person.log_in(await begin(elsewhere, person))
        with pytest.raises(Exception, match="state"):
            await visitor.get(answer.url)


async def test_cancelled_login_is_told_to_the_site(stack: Stack, person: Person) -> None:
    async with visiting(stack) as visitor:
        with pytest.raises(Exception, match="access_denied"):
            await visitor.get(person.cancel(await begin(visitor, person)).url)


@pytest.mark.parametrize("secret", ["plain", "with:colons", "ünïcode"])
def test_basic_credentials_are_raw_in_this_library_and_accepted(stack: Stack, person: Person, secret: str) -> None:
    """openid-client sends the other spelling."""
    client = OAuth2Client(SITE, secret, scope="openid email", redirect_uri=CALLBACK, trust_env=False)
    url, _state = client.create_authorization_url(f"{stack.broker}/auth", login_hint=person.address)
    token = client.fetch_token(f"{stack.broker}/token", authorization_response=person.log_in(url).url)
    assert token["token_type"] == "Bearer"
    assert client.get(f"{stack.broker}/userinfo").json()["email"] == person.address
    client.close()

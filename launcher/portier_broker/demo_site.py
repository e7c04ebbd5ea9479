"""The demo site: two relying parties, built with Authlib as any site would be, without registration at the broker.

`/code` uses the authorization code flow with PKCE; `/form-post` has the ID token posted to it. Both check state, nonce,
signature, issuer and audience.
"""

import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, cast
from urllib.parse import parse_qsl

import httpx
from authlib import deprecate
from authlib.common.errors import AuthlibBaseError
from joserfc.errors import JoseError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from portier_broker.demo_pages import failure_page, home_page
from portier_broker.demo_sessions import SessionMiddleware, renew
from portier_broker.ports import port_of
from portier_broker.web import SecurityHeaders, asset, serving

with warnings.catch_warnings():
    # Authlib wants httpx2 in httpx's place, works with either, and tells so whoever starts the demo.
    warnings.simplefilter("ignore", deprecate.AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import OAuth, OAuthError

_LARGEST_BODY = 1 << 16
_FAILURES = (AuthlibBaseError, JoseError, httpx.HTTPError, ValueError, KeyError, RuntimeError)
"""What Authlib raises when the broker's answers do not hold, or do not come."""

Claims = dict[str, object]


class _States(Protocol):
    async def get_state_data(self, session: dict[str, object], state: str) -> dict[str, str] | None: ...
    async def clear_state_data(self, session: dict[str, object], state: str) -> None: ...


class _Client(Protocol):
    """What we use of Authlib's StarletteOAuth2App, which has no types."""

    framework: _States

    async def authorize_redirect(self, request: Request, redirect_uri: str, **parameters: str) -> Response: ...
    async def authorize_access_token(
        self, request: Request, *, claims_options: dict[str, object]
    ) -> dict[str, object]: ...
    async def parse_id_token(
        self, token: dict[str, str], *, nonce: str, claims_options: dict[str, object]
    ) -> dict[str, object]: ...


class RelyingParties:
    """The two of them; `origin` is their client_id, `issuer` the broker's public_url."""

    def __init__(self, *, origin: str, issuer: str) -> None:
        self._origin = origin
        self._issuer = issuer
        common: dict[str, str] = {"scope": "openid email", "token_endpoint_auth_method": "none"}
        registry = OAuth()
        metadata = f"{issuer}/.well-known/openid-configuration"
        self._code = self._register(registry, "code", metadata, {**common, "code_challenge_method": "S256"})
        self._form_post = self._register(registry, "form_post", metadata, common)

    def _register(self, registry: OAuth, name: str, metadata: str, options: dict[str, str]) -> _Client:
        client = registry.register(
            name, client_id=self._origin, server_metadata_url=metadata, client_kwargs={**options, "trust_env": False}
        )
        return cast("_Client", client)

    @property
    def _expected(self) -> dict[str, object]:
        return {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._origin},
            "email": {"essential": True},
        }

    async def start_code(self, request: Request, email: str) -> Response:
        """Send the person to the broker, for a code."""
        return await self._code.authorize_redirect(request, f"{self._origin}/code/callback", **_hint(email))

    async def start_form_post(self, request: Request, email: str) -> Response:
        """Send the person to the broker, for an ID token that its page posts to us."""
        return await self._form_post.authorize_redirect(
            request,
            f"{self._origin}/form-post/callback",
            response_type="id_token",
            response_mode="form_post",
            **_hint(email),
        )

    async def finish_code(self, request: Request) -> Claims:
        """Exchange the code for an ID token, and verify that. Raises one of _FAILURES."""
        self._check_issuer(request.query_params.get("iss"))
        token = await self._code.authorize_access_token(request, claims_options=self._expected)
        return dict(cast("Claims", token["userinfo"]))

    async def finish_form_post(self, request: Request, answer: dict[str, str]) -> Claims:
        """Verify the ID token of a form_post answer. Raises one of _FAILURES."""
        if "error" in answer:
            raise OAuthError(error=answer["error"], description=answer.get("error_description", ""))
        self._check_issuer(answer.get("iss"))
        state = answer.get("state", "")
        pending = await self._form_post.framework.get_state_data(request.session, state)
        if pending is None:
            raise OAuthError(error="mismatching_state", description="This login did not begin in this browser.")
        await self._form_post.framework.clear_state_data(request.session, state)
        token = {"id_token": answer["id_token"]}
        return dict(await self._form_post.parse_id_token(token, nonce=pending["nonce"], claims_options=self._expected))

    def _check_issuer(self, issuer: str | None) -> None:
        # RFC 9207: against an answer of one provider played to the callback of another.
        if issuer is not None and issuer != self._issuer:
            raise OAuthError(error="wrong_issuer", description=f"The answer names another issuer: {issuer}")


def _hint(email: str) -> dict[str, str]:
    return {"login_hint": email} if email else {}


def demo_app(*, origin: str, issuer: str) -> Starlette:
    """The site's routes."""
    parties = RelyingParties(origin=origin, issuer=issuer)

    async def home(request: Request) -> Response:
        return HTMLResponse(home_page(cast("Claims | None", request.session.get("claims")), issuer=issuer))

    async def code_login(request: Request) -> Response:
        return await parties.start_code(request, request.query_params.get("email", ""))

    async def form_post_login(request: Request) -> Response:
        return await parties.start_form_post(request, request.query_params.get("email", ""))

    async def code_callback(request: Request) -> Response:
        return _logged_in(request, await parties.finish_code(request))

    async def form_post_callback(request: Request) -> Response:
        return _logged_in(request, await parties.finish_form_post(request, await _form(request)))

    async def logout(request: Request) -> Response:
        renew(request, {})
        return RedirectResponse("/", status_code=303)

    async def style(_request: Request) -> Response:
        return asset("demo.css", "text/css")

    return Starlette(
        routes=[
            Route("/", home),
            Route("/code/login", code_login),
            Route("/code/callback", code_callback),
            Route("/form-post/login", form_post_login),
            Route("/form-post/callback", form_post_callback, methods=["POST"]),
            Route("/logout", logout, methods=["POST"]),
            Route("/demo.css", style),
        ],
        # Cookies do not keep to a port: the name does, for the broker and other demos share this host.
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(SessionMiddleware, cookie=f"demo_session_{origin.rpartition(':')[2]}"),
        ],
        exception_handlers=dict.fromkeys(_FAILURES, _failed),
    )


def _logged_in(request: Request, claims: Claims) -> Response:
    renew(request, {"claims": claims})
    return RedirectResponse("/", status_code=303)


async def _failed(_request: Request, error: Exception) -> Response:
    return HTMLResponse(failure_page(error), status_code=400)


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise ValueError("the answer is too large")
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


@asynccontextmanager
async def running_demo_site(listener: socket.socket, *, issuer: str) -> AsyncIterator[str]:
    """Run the site while the block runs; yields its address."""
    origin = f"http://localhost:{port_of(listener)}"
    async with serving(demo_app(origin=origin, issuer=issuer), listener):
        yield origin

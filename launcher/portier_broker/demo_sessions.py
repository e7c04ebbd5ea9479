"""The demo site's sessions: kept here in memory, found by a random cookie; nothing about a login is in the browser."""

import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST_SESSIONS = 1000


class SessionMiddleware:
    """Gives each request its `session` (a dictionary, as Starlette and Authlib know it)."""

    def __init__(self, app: ASGIApp, *, cookie: str) -> None:
        self._app = app
        self._cookie = cookie
        self._sessions: OrderedDict[str, dict[str, object]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find or open the session, and send the cookie when the answer is a new one's."""
        presented = self._presented(scope)
        scope["session"] = self._sessions.get(presented, {})

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._keep(presented, scope, MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_with_cookie)

    def _presented(self, scope: Scope) -> str:
        try:
            morsel = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    def _keep(self, presented: str, scope: Scope, headers: MutableHeaders) -> None:
        session: dict[str, object] = scope["session"]
        if self._sessions.get(presented) is session:
            self._sessions.move_to_end(presented)
            return
        self._sessions.pop(presented, None)
        if not session:
            return
        identifier = secrets.token_urlsafe(32)
        self._sessions[identifier] = session
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        # Lax is enough for form_post too: a site is scheme and host without the port, so a POST from the broker at
        # http://localhost:3333 to us at http://localhost:3381 is same-site. With a broker on another host it would
        # not be, and a site that uses form_post there needs SameSite=None and Secure for this one cookie.
        headers.append("set-cookie", f"{self._cookie}={identifier}; Path=/; HttpOnly; SameSite=Lax")


def renew(request: Request, session: dict[str, object]) -> None:
    """Replace the request's session, cookie included, so that one known from before the login is worth nothing."""
    request.scope["session"] = session

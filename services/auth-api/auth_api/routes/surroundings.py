"""What every request and every answer has, whatever the route: a trace, counts, headers, CORS."""

from collections.abc import Collection, Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth_api.metrics import Metrics
from service_kit.tracing import step

# Read by browsers' apps of any origin: nothing in them depends on who asks, or they take a token of their own.
OPEN_PATHS = frozenset(
    {
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/keys.json",
        "/token",
        "/userinfo",
        "/normalize",
    }
)
GUARDED_PATHS = frozenset({"/auth", "/confirm"})

_HSTS_SECONDS = 31_536_000
_CORS_SECONDS = 86_400


class Surroundings:
    """ASGI middleware around the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        https: bool,
        allowed_origins: Collection[str] | None,
        cors_ttl: int,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._allowed_origins = allowed_origins
        self._cors_ttl = cors_ttl
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
        ]
        if https:
            self._headers.append((b"strict-transport-security", f"max-age={_HSTS_SECONDS}".encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._metrics.http_requests.inc()
        headers = dict(scope["headers"])
        cors = self._cors(scope["path"], headers.get(b"origin"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.http_status.inc(f"{message['status'] // 100}xx")
                message["headers"] = self._completed(message["headers"], cors)
                current.tell(http__response__status_code=message["status"], failed=message["status"] >= 500)
            await send(message)

        with step("HTTP", headers.get(b"traceparent", b"").decode("latin-1"), kind="server") as current:
            scope.setdefault("state", {})["trace"] = current.trace
            structlog.contextvars.bind_contextvars(trace=current.trace.trace_id)
            await self._app(scope, receive, send_with_headers)

    def _completed(
        self, headers: Iterable[tuple[bytes, bytes]], cors: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        complete = [*headers, *self._headers, *cors]
        names = {name for name, _ in complete}
        if b"referrer-policy" not in names:
            complete.append((b"referrer-policy", b"no-referrer"))
        if b"cache-control" not in names:
            complete.append((b"cache-control", b"no-cache, no-store"))
        return complete

    def _cors(self, path: str, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        if path in OPEN_PATHS:
            return _cors_headers(b"*", _CORS_SECONDS)
        if path not in GUARDED_PATHS or origin is None or not self._cors_ttl:
            return []
        allowed = self._allowed_origins is None or origin.decode("latin-1") in self._allowed_origins
        vary = [(b"vary", b"origin")]
        return vary + (_cors_headers(origin, self._cors_ttl) if allowed else [])


def _cors_headers(origin: bytes, seconds: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-expose-headers", b"retry-after, www-authenticate"),
        (b"access-control-max-age", str(seconds).encode()),
    ]

"""The routes, and what each path answers to which method. Everything they need comes in as arguments."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth_api.routes.authorize import Authorize
from auth_api.routes.callback import Callback
from auth_api.routes.confirm import Confirm
from auth_api.routes.documents import Documents
from auth_api.routes.failures import Failures
from auth_api.routes.tokens import Tokens
from auth_api.routes.webhooks import Webhooks
from service_kit.tracing import tell

Handler = Callable[[Request], Awaitable[Response]]
Handlers = Mapping[str, Handler]


def create_app(
    *,
    authorize: Authorize,
    confirm: Confirm,
    callback: Callback,
    tokens: Tokens,
    documents: Documents,
    webhooks: Webhooks,
    failures: Failures,
) -> FastAPI:
    """Put the routes together."""
    page, program = failures.guard, failures.guard_json
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routes: dict[str, Handlers] = {
        "/.well-known/openid-configuration": {"GET": program(documents.discovery)},
        "/.well-known/oauth-authorization-server": {"GET": program(documents.discovery)},  # RFC 8414
        "/keys.json": {"GET": program(documents.keys)},
        "/auth": {"GET": page(authorize), "POST": page(authorize), "HEAD": _nothing},
        "/confirm": {"GET": page(confirm.look), "POST": page(confirm.confirm), "HEAD": _nothing},
        "/callback": {"GET": page(callback.show), "POST": page(callback.take), "HEAD": _nothing},
        "/resend": {"POST": page(confirm.resend)},
        "/cancel": {"POST": page(confirm.cancel)},
        "/token": {"POST": program(tokens.token)},
        "/userinfo": {"GET": program(tokens.userinfo), "POST": program(tokens.userinfo)},
        "/normalize": {"POST": page(documents.normalize)},
        "/": {"GET": page(documents.home)},
        "/ver.txt": {"GET": page(documents.version)},
        "/metrics": {"GET": page(documents.metrics)},
        "/webhooks/{provider}": {"POST": program(webhooks)},
        "/webhooks/{provider}/{secret}": {"POST": program(webhooks)},
        "/{path:path}": {"GET": page(documents.static)},
    }
    for path, handlers in routes.items():
        app.router.routes.append(Route(path, _ByMethod(path, handlers)))
    return app


async def _nothing(_http: Request) -> Response:
    """Answer HEAD where GET would begin or count something: mail scanners and previews ask so."""
    return Response()


class _ByMethod:
    """One path's handlers by method; OPTIONS and 405 are the same everywhere."""

    def __init__(self, path: str, handlers: Handlers) -> None:
        self._path = path
        self._handlers = {"HEAD": handlers["GET"], **handlers} if "GET" in handlers else handlers
        self._allow = ", ".join(sorted({*self._handlers, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI)."""
        http = Request(scope, receive)
        handler = self._handlers.get(http.method)
        if handler is not None:
            tell(name=f"{http.method} {self._path}", http__request__method=http.method, http__route=self._path)
            response = await handler(http)
        else:
            response = Response(status_code=204 if http.method == "OPTIONS" else 405, headers={"allow": self._allow})
        await response(scope, receive, send)

"""The routes, and what each path answers to which method. Everything they need comes in as arguments."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from auth_api.routes.authorize import Authorize
from auth_api.routes.confirm import Confirm
from auth_api.routes.documents import Documents
from auth_api.routes.failures import Failures
from auth_api.routes.tokens import Tokens

Handler = Callable[[Request], Awaitable[Response]]
Methods = dict[str, Handler]


def create_app(
    *, authorize: Authorize, confirm: Confirm, tokens: Tokens, documents: Documents, failures: Failures
) -> FastAPI:
    """Put the routes together."""
    page, program = failures.guard, failures.guard_json
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routes: dict[str, Methods] = {
        "/.well-known/openid-configuration": {"GET": program(documents.discovery)},
        "/keys.json": {"GET": program(documents.keys)},
        "/auth": {"GET": page(authorize), "POST": page(authorize), "HEAD": _nothing},
        "/confirm": {"GET": page(confirm.look), "POST": page(confirm.confirm), "HEAD": _nothing},
        "/resend": {"POST": page(confirm.resend)},
        "/cancel": {"POST": page(confirm.cancel)},
        "/token": {"POST": program(tokens.token)},
        "/userinfo": {"GET": program(tokens.userinfo), "POST": program(tokens.userinfo)},
        "/normalize": {"POST": page(documents.normalize)},
        "/": {"GET": page(documents.home)},
        "/ver.txt": {"GET": page(documents.version)},
        "/metrics": {"GET": page(documents.metrics)},
        "/{path:path}": {"GET": page(documents.static)},
    }
    for path, methods in routes.items():
        app.router.routes.append(Route(path, _by_method(methods), methods=None))
    return app


async def _nothing(_http: Request) -> Response:
    """Answer HEAD where GET would begin or count something: mail scanners and previews ask so."""
    return Response()


def _by_method(methods: Methods) -> Handler:
    """Give the ASGI endpoint that dispatches one path's methods; OPTIONS and 405 are the same everywhere."""
    if "GET" in methods:
        methods.setdefault("HEAD", methods["GET"])
    allow = ", ".join([*methods, "OPTIONS"])

    async def dispatch(http: Request) -> Response:
        handler = methods.get(http.method)
        if handler is not None:
            return await handler(http)
        if http.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        return Response(status_code=405, headers={"allow": allow})

    return dispatch

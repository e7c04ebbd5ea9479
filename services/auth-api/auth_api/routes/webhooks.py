"""Where mail providers report bounces and complaints (`/webhooks/…`); nothing is here that is not configured."""

from starlette.requests import Request
from starlette.responses import Response

from auth_api.bounces.bounces import Bounces
from auth_api.bounces.reports import Posted
from auth_api.routes.answers import json_answer
from auth_api.routes.requests import body


class Webhooks:
    """Takes a provider's call."""

    def __init__(self, bounces: Bounces) -> None:
        self._bounces = bounces

    async def __call__(self, http: Request) -> Response:
        """Answer a call: 204 where it has been dealt with, also where nothing of it counts; see `failures` for more."""
        provider = self._bounces.providers.get(http.path_params["provider"])
        if provider is None:
            return json_answer({"error": "not_found"}, status=404)
        content = await body(http, most=provider.most)
        posted = Posted(http.headers, content, http.path_params.get("secret", ""))
        await self._bounces.take(provider, posted)
        return Response(status_code=204)

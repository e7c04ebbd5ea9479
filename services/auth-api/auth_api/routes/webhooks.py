"""Where mail providers report bounces and complaints (`/webhooks/…`); nothing is here that is not configured."""

from starlette.requests import Request
from starlette.responses import Response

from auth_api.bounces.bounces import Bounces
from auth_api.bounces.reports import Posted
from auth_api.client_address import ProxyNetwork
from auth_api.limits import network_of
from auth_api.routes.answers import json_answer
from auth_api.routes.requests import TooLargeError, body, ip_of


class Webhooks:
    """Takes a provider's call."""

    def __init__(self, bounces: Bounces, trusted_proxies: tuple[ProxyNetwork, ...]) -> None:
        self._bounces = bounces
        self._trusted_proxies = trusted_proxies

    async def __call__(self, http: Request) -> Response:
        """Answer a call: 200 where it has been dealt with, also where nothing of it counts; see `failures` for more.

        Not 204: Postmark and Mailgun call again after anything but 200.
        """
        provider = self._bounces.providers.get(http.path_params["provider"])
        if provider is None:
            return json_answer({"error": "not_found"}, status=404)
        network = network_of(ip_of(http, self._trusted_proxies))
        self._bounces.refusals.check(network)
        try:
            content = await body(http, most=provider.most)
        except TooLargeError:
            self._bounces.refusals.count(network)
            raise
        posted = Posted(http.headers, content, http.path_params.get("secret", ""))
        await self._bounces.take(provider, posted, network=network)
        return json_answer({}, status=200)

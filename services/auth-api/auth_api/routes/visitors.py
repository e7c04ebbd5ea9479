"""Who sends a request, as the rules want to know it."""

from dataclasses import dataclass

from starlette.requests import Request

from auth_api.client_address import ProxyNetwork
from auth_api.login.logins import Visitor
from auth_api.routes.requests import ip_of, locale_of


@dataclass(frozen=True, slots=True)
class Visitors:
    """Makes visitors from requests."""

    trusted_proxies: tuple[ProxyNetwork, ...]

    def visitor(self, http: Request) -> Visitor:
        """Describe who sends a request."""
        return Visitor(
            ip=ip_of(http, self.trusted_proxies),
            locale=locale_of(http),
            trace=http.scope["state"]["trace"].traceparent,
        )

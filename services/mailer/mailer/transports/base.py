"""What the mail-API transports share."""

from __future__ import annotations

import httpx

from mailer.errors import TransportError
from mailer.transports.http import reachable


class HttpTransport:
    """A provider's API behind the shared client; the client is closed by whoever opened it."""

    name = ""

    def __init__(self, client: httpx.AsyncClient, *, url: str, token: str) -> None:
        self._client = client
        self._url = url
        self._token = token

    async def check(self) -> str:
        """Learn whether the provider can be reached.

        Raises:
            TransportError: it can't, and why.
        """
        try:
            return await reachable(self._client, self._url)
        except httpx.HTTPError as error:
            raise TransportError(f"{self.name}: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Nothing is open that is this transport's own."""

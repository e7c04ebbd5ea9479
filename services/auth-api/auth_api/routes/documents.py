"""What needs no store: discovery, keys, the first page, the version, static files, normalisation of addresses."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response

from auth_api.addresses import parse_address
from auth_api.errors import InvalidAddressError, NoSigningKeyError
from auth_api.keyring import Keyring
from auth_api.metrics import CONTENT_TYPE, Metrics
from auth_api.pages import ErrorKind, Pages
from auth_api.routes.answers import Answers
from auth_api.routes.requests import TooLargeError, body, locale_of

MAX_LINES = 1000  # of one request to /normalize
VERSION = version("auth-api")


class Documents:
    """Answers from memory."""

    def __init__(
        self,
        *,
        answers: Answers,
        pages: Pages,
        keyring: Keyring,
        metrics: Metrics,
        discovery: dict[str, object],
        discovery_ttl: int,
        keys_ttl: int,
        static_ttl: int,
        commit: str,
    ) -> None:
        self._answers = answers
        self._pages = pages
        self._keyring = keyring
        self._metrics = metrics
        self._discovery = json.dumps(discovery).encode()
        self._discovery_ttl = discovery_ttl
        self._keys_ttl = keys_ttl
        self._static_ttl = static_ttl
        self._version = f"Portier {VERSION}" + (f" (git commit {commit})" if commit else "")
        self._keys: tuple[object, bytes, str] = (None, b"", "")

    async def discovery(self, _http: Request) -> Response:
        """Send the provider's metadata."""
        headers = {"cache-control": f"public, max-age={self._discovery_ttl}, s-maxage=0"}
        return Response(self._discovery, headers=headers, media_type="application/json")

    async def keys(self, http: Request) -> Response:
        """Send the key set. With rotation it says itself when it will have changed."""
        if self._keyring.missing():
            raise NoSigningKeyError("there is no signing key yet: is key-rotator running?")
        content, etag = self._written_keys()
        life = self._keys_ttl
        if not self._keyring.is_manual:
            life = min(life, int(self._keyring.seconds_to_next_change()))
        headers = {"cache-control": f"public, max-age={life}, s-maxage=0", "etag": etag}
        if not self._keyring.is_manual:
            headers["expires"] = format_datetime(datetime.now(UTC) + timedelta(seconds=life), usegmt=True)
        if http.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type="application/json")

    def _written_keys(self) -> tuple[bytes, str]:
        """Write the key set once for as long as it stays the same."""
        if self._keys[0] is not self._keyring.jwk_set:
            content = json.dumps(self._keyring.jwk_set).encode()
            self._keys = (self._keyring.jwk_set, content, f'"{sha256(content).hexdigest()[:16]}"')
        return self._keys[1], self._keys[2]

    async def home(self, http: Request) -> Response:
        """Say what this service is."""
        return self._answers.page(self._pages.home(locale=locale_of(http)))

    async def version(self, _http: Request) -> Response:
        """Tell the version."""
        return Response(self._version, media_type="text/plain")

    async def metrics(self, _http: Request) -> Response:
        """Send the counters under the names of old."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    async def normalize(self, http: Request) -> Response:
        """Normalise addresses, one a line; an invalid one gives an empty line."""
        lines = (await body(http)).split(b"\n")
        if not lines[-1]:
            lines.pop()
        if len(lines) > MAX_LINES:
            raise TooLargeError("invalid_request", f"there are more than {MAX_LINES} lines", status=413)
        normalized: list[str] = []
        for line in lines:
            normalized.append(f"{_normalized(line)}\n")
            await asyncio.sleep(0)  # others' requests get their turn
        return Response("".join(normalized), headers={"cache-control": "no-store"}, media_type="text/plain")

    async def static(self, http: Request) -> Response:
        """Send a static file."""
        file = self._pages.static_file(http.url.path)
        if file is None:
            html = self._pages.error(locale=locale_of(http), kind=ErrorKind.NOT_FOUND)
            return self._answers.page(html, status=404)
        life = 31_536_000 if file.immutable else self._static_ttl
        lasting = ", immutable" if file.immutable else ""
        headers = {"cache-control": f"public, max-age={life}{lasting}", "etag": file.etag}
        if http.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        headers["content-type"] = file.media_type
        return Response(file.content, headers=headers)


def _normalized(line: bytes) -> str:
    try:
        return str(parse_address(line.removesuffix(b"\r").decode()))
    except (UnicodeDecodeError, InvalidAddressError):
        return ""

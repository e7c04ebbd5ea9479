"""Documents of servers that strangers name, fetched without being led anywhere else than to the public internet.

Each host is resolved here, every address is checked, and the connection goes to a checked address: what DNS says a
moment later changes nothing. TLS and Host go on naming the host.
"""

import asyncio
import json
import ssl
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urljoin

import httpcore

from auth_api.discovery.names import Names
from auth_api.errors import DiscoveryError, HostError, InvalidOriginError, StatusError
from auth_api.oidc.origins import parse_redirect_uri
from auth_api.public_addresses import IpAddress, is_public

MAX_BODY = 256 * 1024  # octets, as sent and as decompressed
MAX_REDIRECTS = 3
CONNECT_TIMEOUT = 2.0  # seconds for one address, so that a second one has its turn
MOST_ADDRESSES = 4

_REDIRECTS = (301, 302, 303, 307, 308)
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HTTPS = 443
_PRIVILEGED_PORTS = 1024


class NameLookup(Protocol):
    """Where addresses come from; `Names` in service, a table in tests."""

    async def addresses(self, host: str) -> list[IpAddress]:
        """Give all addresses of a host."""
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """What was fetched; `max_age` in seconds, where the server gave one."""

    text: str
    max_age: float | None

    def json_object(self) -> dict[str, object]:
        """Read it as a JSON object.

        Raises:
            DiscoveryError: it is none.
        """
        return json_object(self.text)


def json_object(text: str) -> dict[str, object]:
    """Read a document, as a server sent it or as it was kept.

    Raises:
        DiscoveryError: it is no JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError("the document is not JSON") from error
    if not isinstance(value, dict):
        raise DiscoveryError("the document is not a JSON object")
    return value


class SafeHttp:
    """GETs documents. With `development`, this machine itself may be asked, also by http."""

    def __init__(
        self,
        *,
        names: NameLookup | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
        development: bool = False,
    ) -> None:
        self._development = development
        self._headers = [
            ("User-Agent", f"portier.io/{version('auth-api')}"),
            ("Accept", "application/json, */*;q=0.1"),
            ("Accept-Encoding", "gzip"),
        ]
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            # Not bounded here: a host that waited for others' connections would be taken for one that does not answer.
            # `Flights` bounds how many are asked at once.
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=30,
            network_backend=_CheckedNetwork(
                names or Names(), network or httpcore.AnyIOBackend(), _may_reach(development=development)
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def get(self, url: str, *, within: float) -> Document:
        """Fetch a document; `within` seconds, redirects included.

        Raises:
            HostError: the host can't be reached, or not in time.
            StatusError: it answers with another status than 2xx.
            DiscoveryError: it may not be asked, or what it sends can't be used.
        """
        try:
            async with asyncio.timeout(within):
                return await self._follow(url)
        except TimeoutError as error:
            raise HostError(f"no answer within {within:g} s") from error

    async def _follow(self, url: str) -> Document:
        for _ in range(MAX_REDIRECTS + 1):
            check_url(url, development=self._development)
            document, location = await self._get(url)
            if document is not None:
                return document
            try:
                target = urljoin(url, location)
            except ValueError as error:
                raise DiscoveryError("it redirects to what is no URL") from error
            if target.partition(":")[0] != url.partition(":")[0]:
                raise DiscoveryError("it redirects to another scheme")
            url = target
        raise DiscoveryError(f"it redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: str) -> tuple[Document | None, str]:
        try:
            async with self._pool.stream("GET", url, headers=self._headers) as response:
                answer = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in _REDIRECTS:
                    return None, answer.get(b"location", "")
                if not 200 <= response.status < 300:
                    raise StatusError(response.status)
                body = await _read(response)
        except (httpcore.NetworkError, httpcore.TimeoutException, ssl.SSLError, OSError) as error:
            raise HostError(f"it can't be reached ({error or type(error).__name__})") from error
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, httpcore.ProxyError) as error:
            raise DiscoveryError(f"it does not speak HTTP ({error})") from error
        text = _text(body, answer.get(b"content-encoding", ""))
        return Document(text, _max_age(answer.get(b"cache-control", ""))), ""


def check_url(url: str, *, development: bool = False) -> None:
    """Let pass what may be asked for at all; where its host lies is checked when connecting.

    A URL has to be written as browsers and libraries alike read it; an IP address names nobody, so it is refused.

    Raises:
        DiscoveryError: it may not be asked.
    """
    try:
        origin = parse_redirect_uri(url).origin
    except InvalidOriginError as error:
        raise DiscoveryError(f"its URL is not usable: {error}") from error
    if development and origin.host in _LOOPBACK_HOSTS:
        return
    if origin.scheme != "https":
        raise DiscoveryError("its URL is not https")
    if origin.port is not None and origin.port < _PRIVILEGED_PORTS:
        raise DiscoveryError(f"its port is neither {_HTTPS} nor one above {_PRIVILEGED_PORTS - 1}")
    if _is_ip(origin.host) or "." not in origin.host:
        raise DiscoveryError("its host is no full domain name")


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses, and only by TCP."""

    def __init__(
        self, names: NameLookup, network: httpcore.AsyncNetworkBackend, may_reach: Callable[[IpAddress], bool]
    ) -> None:
        self._names = names
        self._network = network
        self._may_reach = may_reach

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve once, check all, connect to the first that answers."""
        addresses = [ip_address(host.strip("[]"))] if _is_ip(host) else await self._names.addresses(host)
        if not addresses or not all(map(self._may_reach, addresses)):
            # One private address among public ones is no accident to work around.
            raise DiscoveryError("its name leads to an address that is not public")
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses[:MOST_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, min(timeout or CONNECT_TIMEOUT, CONNECT_TIMEOUT), local_address, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Sleep, for the pool's sake."""
        await self._network.sleep(seconds)


def _may_reach(*, development: bool) -> Callable[[IpAddress], bool]:
    return (lambda address: is_public(address) or address.is_loopback) if development else is_public


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


async def _read(response: httpcore.Response) -> bytes:
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.aiter_stream():
        length += len(chunk)
        if length > MAX_BODY:
            raise DiscoveryError(f"its document is longer than {MAX_BODY} octets")
        chunks.append(chunk)
    return b"".join(chunks)


def _text(body: bytes, encoding: str) -> str:
    """Decode a body; httpx would decompress without a bound, and as often as a header asks."""
    if encoding.strip().lower() in ("gzip", "x-gzip"):
        body = _gunzip(body)
    elif encoding.strip().lower() not in ("", "identity"):
        raise DiscoveryError("its document has a content encoding that was not offered")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise DiscoveryError("its document is not UTF-8") from error


def _gunzip(body: bytes) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise DiscoveryError("its document is not gzip, as it says") from error
    if len(plain) > MAX_BODY:
        raise DiscoveryError(f"its document is longer than {MAX_BODY} octets")
    if not unzip.eof:
        raise DiscoveryError("its document breaks off")
    return plain


def _max_age(cache_control: str) -> float | None:
    """`max-age` of RFC 9111 section 5.2.2.1, None where there is none that can be read."""
    for directive in cache_control.split(","):
        name, _, value = directive.strip().partition("=")
        value = value.strip('"')
        if name.lower() == "max-age" and value.isascii() and value.isdigit() and len(value) < 12:
            return float(value)
    return None

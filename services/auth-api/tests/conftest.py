"""An internet in small: mail domains and identity providers on one real TLS server, with every fault they may have.

Names resolve to public addresses, and connections to those end at the server here: what the broker does is what it
would do out there.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

import httpcore
import jwt
import pytest
import trustme

from auth_api.discovery.safe_http import SafeHttp
from auth_api.errors import HostError
from auth_api.public_addresses import IpAddress
from shared_store.signing_keys import SigningAlg, SigningKey, generate

PORTIER = "https://portier.io/specs/auth/1.0/idp"
GOOGLE = "https://portier.io/specs/auth/1.0/idp/google"
PUBLIC = "93.184.216.34"
IDP = "login.mail.example"
DOMAIN = "acme.mail.example"
WEBFINGER = "/.well-known/webfinger"
CONFIGURATION = "/.well-known/openid-configuration"

_SIGNING_KEYS: dict[str, SigningKey] = {}


def signing_key(name: str, alg: SigningAlg = "RS256") -> SigningKey:
    """A key by any name, made once a run."""
    if name not in _SIGNING_KEYS:
        _SIGNING_KEYS[name] = generate(alg)
    return _SIGNING_KEYS[name]


@dataclass
class Reply:
    """What a path answers; with `hold` when that is set or the server ends, with `drips` without an end."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    drips: bool = False


@dataclass
class Table:
    """DNS: a host's addresses, by default one public one; each of a list of lists is given once, the last for ever."""

    hosts: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str) -> list[IpAddress]:
        self.asked.append(host)
        answers = self.hosts.get(host, [[PUBLIC]])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if not found:
            raise HostError("no such name")
        return [ip_address(address) for address in found]


class Detour(httpcore.AsyncNetworkBackend):
    """Notes which addresses are connected to; those of the internet end at the server here, others where they say."""

    def __init__(self) -> None:
        self.port = 0
        self.connected: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self.refused:
            raise httpcore.ConnectError("refused")
        if ip_address(host).is_global:
            host, port = "127.0.0.1", self.port
        return await self._network.connect_tcp(host, port, timeout, local_address, socket_options)


class Internet:
    """The server, what it answers, and what it was asked."""

    def __init__(self, authority: trustme.CA) -> None:
        self.names = Table()
        self.network = Detour()
        self.replies: dict[tuple[str, str], Reply] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._authority = authority
        self._over = asyncio.Event()

    def http(self) -> SafeHttp:
        """What an auth-api asks with."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return SafeHttp(names=self.names, network=self.network, ssl_context=context)

    def serve(self, host: str, path: str, content: object, **more: object) -> Reply:
        """Answer a path with JSON (or octets as they are)."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.replies[host, path] = Reply(body, **more)  # type: ignore[arg-type]
        return self.replies[host, path]

    def mail_domain(self, domain: str, href: str = f"https://{IDP}", rel: str = PORTIER) -> Reply:
        """Make a domain name its provider."""
        return self.serve(domain, WEBFINGER, {"links": [{"rel": rel, "href": href}]})

    def provider(self, host: str = IDP, **changes: object) -> Provider:
        """Make a host an identity provider."""
        configuration: dict[str, object] = {
            "issuer": f"https://{host}",
            "authorization_endpoint": f"https://{host}/authorize",
            "jwks_uri": f"https://{host}/keys",
            "response_modes_supported": ["form_post", "fragment"],
            **changes,
        }
        self.serve(host, CONFIGURATION, configuration)
        self.serve(host, "/keys", {"keys": [self.provider_jwk()]})
        return Provider(host)

    def provider_jwk(self) -> dict[str, str]:
        """The key that providers sign with."""
        return dict(signing_key("provider").public_jwk)

    def provider_kid(self) -> str:
        """Its name."""
        return signing_key("provider").kid

    def asked(self, host: str, path: str = "") -> int:
        """How often a host, or a path there, was asked."""
        return sum(h == host and t.partition("?")[0].startswith(path) for h, t in self.requests)

    async def until_asked(self, host: str, path: str = "", *, times: int = 1) -> None:
        """Wait until a path has been asked so often."""
        async with asyncio.timeout(20):
            while self.asked(host, path) < times:
                await asyncio.sleep(0.01)

    def end(self) -> None:
        """Let go of what is held."""
        self._over.set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        target = request.split(" ")[1]
        host = headers["host"].partition(":")[0]
        self.requests.append((host, target))
        self.headers.append(headers)
        reply = self.replies.get((host, target.partition("?")[0]), Reply(b"", 404))
        if reply.hold is not None:
            waiting = [asyncio.ensure_future(event.wait()) for event in (reply.hold, self._over)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        if reply.drips:
            await self._drip(writer)
        if self._over.is_set():
            return False
        all_headers = {"Content-Length": str(len(reply.body)), "Content-Type": "application/json", **reply.headers}
        told = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Told\r\n{told}\r\n".encode() + reply.body)
        await writer.drain()
        return True

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        """Send an endless document, an octet at a time, so that there is always something to go on waiting for."""
        writer.write(b"HTTP/1.1 200 Told\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self._over.is_set():
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Provider:
    """An identity provider's other half: it answers what it is asked by way of the browser."""

    host: str

    def token(self, url: str, key: SigningKey | None = None, kid: str | None = None, **changes: object) -> str:
        """Write the ID token for an authorization request; None leaves a claim out."""
        key = key or signing_key("provider")
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        now = int(time.time())
        claims = {
            "iss": f"https://{self.host}",
            "aud": query["client_id"],
            "nonce": query["nonce"],
            "email": query["login_hint"],
            "iat": now,
            "exp": now + 60,
            **changes,
        }
        told = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(told, key.private_key, algorithm=key.alg, headers={"kid": kid or key.kid})


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def internet(authority: trustme.CA) -> AsyncIterator[Internet]:
    """Give an internet on which nobody answers anything but 404 yet; all below *.mail.example is there by TLS."""
    made = Internet(authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("*.mail.example", "accounts.google.com").configure_cert(context)
    serving: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = made.answer
    server = await asyncio.start_server(serving, "127.0.0.1", 0, ssl=context)
    made.network.port = server.sockets[0].getsockname()[1]
    yield made
    made.end()
    server.close()

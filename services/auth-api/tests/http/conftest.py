"""A whole auth-api in the test's own process, on a real Valkey, with a mailer's hand on the other end of the queue."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import httpx
import jwt
import pytest

from auth_api.composition import Service, build
from auth_api.discovery.safe_http import SafeHttp
from auth_api.errors import HostError
from auth_api.public_addresses import IpAddress
from auth_api.settings import SERVICE, Settings
from service_kit.internal_port import Check
from service_kit.settings import Link, load
from shared_store.errors import KeySetConflict
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.sealing import Sealer
from shared_store.signing_keys import SigningAlg, generate
from shared_store.store import Store

PUBLIC_URL = "http://localhost:3333"
SITE = "https://site.example"

_KEYS: dict[SigningAlg, list[PublishedKey]] = {}


def keys_for(alg: SigningAlg) -> list[PublishedKey]:
    """Two keys, made once a run: RSA takes its time."""
    if alg not in _KEYS:
        _KEYS[alg] = [PublishedKey(generate(alg), 0, 0, 4_000_000_000) for _ in range(2)]
    return _KEYS[alg]


@dataclass
class Postbox:
    """Takes mail jobs off the queue as a mailer does, and tells an outcome."""

    store: Store
    outcome: Outcome | None = Outcome.DELIVERED
    mails: list[MailJob] = field(default_factory=list)

    async def run(self) -> None:
        queue = MailQueue()
        await self.store.run(queue.register("postbox", lease=3600))
        while True:
            if not await queue.wait_for_job(self.store, "postbox", block=0.2):
                continue
            claim = await self.store.run(queue.claim("postbox", room=1000, known=[]))
            assert claim is not None
            for claimed in claim.jobs:
                assert claimed.raw is not None
                job = MailJob.from_json(claimed.raw)
                self.mails.append(job)
                if self.outcome is not None:
                    await self.store.run(queue.finish("postbox", job.id, self.outcome, tell=job.reply_to))

    async def mail(self, number: int = -1) -> MailJob:
        async with asyncio.timeout(10):
            while not self.mails:
                await asyncio.sleep(0.01)
        return self.mails[number]


@dataclass
class Broker:
    """One auth-api and a browser (cookies and all) that talks to it."""

    browser: httpx.AsyncClient
    store: Store
    postbox: Postbox
    new_browser: Callable[[], httpx.AsyncClient]
    service: Service

    async def authorize(self, **changes: str | None) -> httpx.Response:
        return await self.browser.get("/auth", params=request(**changes))

    async def begin(self, **changes: str | None) -> tuple[str, str]:
        """Begin a login; gives its session id and code."""
        answer = await self.authorize(**changes)
        assert answer.status_code == 200, answer.text
        job = await self.postbox.mail()
        return dict(parse_qsl(urlsplit(job.link).query))["session"], job.code

    async def confirm(self, session: str, code: str, **more: str) -> httpx.Response:
        data = {"session": session, "code": code, "device_ok": "1", **more}
        return await self.browser.post("/confirm", data=data)


def request(**changes: str | None) -> dict[str, str]:
    """An authorization request as an old Portier client sends it; None leaves a parameter out."""
    given: dict[str, str | None] = {
        "client_id": SITE,
        "redirect_uri": f"{SITE}/callback",
        "response_type": "id_token",
        "response_mode": "form_post",
        "scope": "openid email",
        "nonce": "n-1",
        "state": "s-1",
        "login_hint": "Person@Example.com",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture
def authorization_request() -> Callable[..., dict[str, str]]:
    return request


@pytest.fixture
def form_fields() -> Callable[[str], dict[str, str]]:
    """Read the hidden fields of a page's forms."""

    def read(html: str) -> dict[str, str]:
        pairs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', html)
        return {unescape(name): unescape(value) for name, value in pairs}

    return read


@pytest.fixture
def verified() -> Callable[..., dict[str, object]]:
    """Verify an ID token as a relying party does."""

    def verify(token: str, alg: SigningAlg = "RS256") -> dict[str, object]:
        key = keys_for(alg)[0].key
        claims: dict[str, object] = jwt.decode(
            token, key.private_key.public_key(), algorithms=[alg], audience=SITE, issuer=PUBLIC_URL
        )
        assert jwt.get_unverified_header(token)["kid"] == key.kid
        return claims

    return verify


FormFields = Callable[[str], dict[str, str]]
Verified = Callable[..., dict[str, object]]
MakeRequest = Callable[..., dict[str, str]]


class NoNames:
    """A DNS that knows nobody: these tests are about mail."""

    async def addresses(self, host: str) -> list[IpAddress]:
        raise HostError(f"{host} is not known")


MakeBroker = Callable[..., contextlib.AbstractAsyncContextManager[Broker]]


@pytest.fixture
def make_broker(valkey_url: str) -> MakeBroker:
    """Start an auth-api with these settings (BROKER_* without the prefix) on an empty store."""

    @contextlib.asynccontextmanager
    async def make(
        *,
        keys: bool = True,
        peer: str = "203.0.113.7",
        http: SafeHttp | None = None,
        overrides: Mapping[str, Sequence[Link]] | None = None,
        **settings: str,
    ) -> AsyncIterator[Broker]:
        environ = {
            "BROKER_REDIS_URL": valkey_url,
            "BROKER_PUBLIC_URL": PUBLIC_URL,
            "BROKER_LIMITS": "ip:10000/s",
            "BROKER_MAILS_PER_ADDRESS": "10000",
            "BROKER_MAIL_WAIT": "2",
            **{f"BROKER_{name.upper()}": value for name, value in settings.items()},
        }
        loaded = load(Settings, service=SERVICE, environ=environ).settings
        loaded = loaded.model_copy(update={"domain_overrides": overrides or {}})
        async with Store(valkey_url) as store, asyncio.TaskGroup() as group:
            if keys:
                await save_keys(store, *loaded.signing_algs)
            postbox = Postbox(store)
            task = group.create_task(postbox.run())
            async with build(loaded, http=http or SafeHttp(names=NoNames())) as service:
                opened: list[httpx.AsyncClient] = []

                def new_browser() -> httpx.AsyncClient:
                    transport = httpx.ASGITransport(service.app, client=(peer, 4711))
                    opened.append(httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL, timeout=30))
                    return opened[-1]

                if keys:
                    await until_ready(service.checks)
                yield Broker(new_browser(), store, postbox, new_browser, service)
                for browser in opened:
                    await browser.aclose()
            task.cancel()

    return make


async def until_ready(checks: Sequence[Check]) -> None:
    """Wait until every readiness check passes."""
    for check in checks:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(Exception):
                    await check.check()
                    break
                await asyncio.sleep(0.02)


async def save_keys(store: Store, *algs: SigningAlg) -> None:
    for alg in algs:
        current, following = keys_for(alg)
        with contextlib.suppress(KeySetConflict):  # another instance of the same test has saved them
            await store.run(KeySets(Sealer()).replace(KeySet(alg, 1, current, following), expected_version=0))


@pytest.fixture
async def broker(make_broker: MakeBroker) -> AsyncIterator[Broker]:
    async with make_broker() as made:
        yield made


ZONES: dict[tuple[str, str], list[str]] = {
    ("good.example.", "MX"): ["10 mx.good.example."],
    ("mx.good.example.", "A"): ["93.184.216.34"],
    ("six.example.", "MX"): ["10 mx.six.example."],
    ("mx.six.example.", "AAAA"): ["2606:2800:220:1:248:1893:25c8:1946"],
    ("several.example.", "MX"): ["10 gone.several.example.", "20 private.example.", "30 mx.good.example."],
    ("private.example.", "A"): ["10.0.0.1"],
    ("private.example.", "AAAA"): ["fe80::1"],
    ("inside.example.", "MX"): ["10 private.example."],
    ("bare.example.", "A"): ["93.184.216.34"],
    ("null.example.", "MX"): ["0 ."],
    ("half-null.example.", "MX"): ["0 .", "10 mx.good.example."],
    ("dangling.example.", "MX"): ["10 gone.example."],
    ("loopback.example.", "A"): ["127.0.0.1"],
}
KNOWN = {name for name, _ in ZONES} | {"empty.example."}


class DnsServer(asyncio.DatagramProtocol):
    """Answers from the table; is silent about one name and fails for another."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Python 3.11's own transport for datagrams is no asyncio.DatagramTransport.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name, record_type = str(query.question[0].name), dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append((name, record_type))
        if name == "silent.example.":
            return
        answer = dns.message.make_response(query)
        records = ZONES.get((name, record_type))
        if records:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", record_type, *records))
        if name == "failing.example.":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name not in KNOWN:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        assert self._transport is not None
        self._transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def dns_server() -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    server.port = transport.get_extra_info("sockname")[1]
    yield server
    transport.close()

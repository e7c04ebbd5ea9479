"""No way to this machine or its network: a server listens here on real sockets, and nobody ever connects to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from auth_api.discovery.names import Names
from auth_api.discovery.safe_http import SafeHttp
from auth_api.errors import DiscoveryError, HostError

if TYPE_CHECKING:
    from tests.conftest import Internet, Table
    from tests.http.conftest import Broker, MakeBroker

NAME = "trap.mail.example"
DOMAIN = "acme.mail.example"
IDP = "login.mail.example"


@dataclass
class Trap:
    """A listener on all addresses of this machine, and who connected to it."""

    port: int = 0
    caught: list[object] = field(default_factory=list)
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.caught.append(writer.get_extra_info("peername"))
        self.sprung.set()
        writer.close()


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    trap = Trap()
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    trap.port = listener.getsockname()[1]
    server = await asyncio.start_server(trap.serve, sock=listener)
    yield trap
    server.close()


def own_addresses() -> set[str]:
    """This machine's addresses, those of its network among them."""
    with contextlib.suppress(OSError):
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return set()


# What the kernel takes for this machine, in every spelling of it.
LEADING_HERE = sorted({"127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"} | own_addresses())


async def sprung(trap: Trap, address: str) -> bool:
    """Try the trap: connecting to it without any check has to spring it."""
    try:
        _, writer = await asyncio.open_connection(address, trap.port)
    except OSError:  # this machine has no IPv6
        return False
    await asyncio.wait_for(trap.sprung.wait(), 10)
    writer.close()
    return True


@pytest.mark.parametrize("address", LEADING_HERE)
async def test_name_that_leads_to_this_machine_is_not_connected_to(
    trap: Trap, internet: Internet, address: str
) -> None:
    internet.names.hosts[NAME] = [[address]]
    async with SafeHttp(names=internet.names) as http:
        with pytest.raises(DiscoveryError, match="not public"):
            await http.get(f"https://{NAME}:{trap.port}/document", within=20)
    assert trap.caught == []
    assert await sprung(trap, address) or ":" in address  # and it would have worked


# Each has {port} where the trap listens, so that a connection would be seen wherever it came from.
HOSTILE = [
    "http://127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/",
    "https://127.1:{port}/",
    "https://127.0.1:{port}/",
    "https://0:{port}/",
    "https://0.0.0.0:{port}/",
    "https://2130706433:{port}/",
    "https://017700000001:{port}/",
    "https://0x7f000001:{port}/",
    "https://0x7f.0x0.0x0.0x1:{port}/",
    "https://0177.0.0.01:{port}/",
    "https://127.0.0.1.:{port}/",
    "https://127。0。0。1:{port}/",
    "https://①②⑦.⓪.⓪.①:{port}/",
    "https://１２７.0.0.1:{port}/",
    "https://127%2e0%2e0%2e1:{port}/",
    "https://[::1]:{port}/",
    "https://[::]:{port}/",
    "https://[0:0:0:0:0:0:0:1]:{port}/",
    "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/",
    "https://[::127.0.0.1]:{port}/",
    "https://[::1%25lo]:{port}/",
    "https://[64:ff9b::7f00:1]:{port}/",
    "https://localhost:{port}/",
    "https://LocalHost:{port}/",
    "https://localhost.:{port}/",
    "https://ⓛocalhost:{port}/",
    "https://localhost.localdomain:{port}/",
    "https://a.localhost:{port}/",
    "https://ip6-localhost:{port}/",
    "https://localhost\t:{port}/",
    "https://login.mail.example@127.0.0.1:{port}/",
    "https://login.mail.example:443@127.0.0.1:{port}/",
    "https://login.mail.example%40127.0.0.1:{port}/",
    "https://127.0.0.1:{port}\\@login.mail.example/",
    "https://127.0.0.1:{port}#@login.mail.example/",
    "https://127.0.0.1:{port}?@login.mail.example/",
    "https://login.mail.example\\.127.0.0.1:{port}/",
    "https://127.0.0.1:{port}%00.login.mail.example/",
    "https://127.0.0.1\r\n:{port}/",
    "https:127.0.0.1:{port}/",
    "https:/127.0.0.1:{port}/",
    "https:\\\\127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "ftp://127.0.0.1:{port}/",
    "ws://127.0.0.1:{port}/",
    "https://{name}:{port}/",
    "https://metadata.google.internal:{port}/",
]


def hostile(trap: Trap, url: str) -> str:
    return url.format(port=trap.port, name=NAME)


@pytest.mark.parametrize("url", HOSTILE)
async def test_hostile_url_does_not_lead_to_this_machine(trap: Trap, internet: Internet, url: str) -> None:
    """With the real DNS client but for a name of ours, and real sockets: nothing here stands in for the network."""

    class Mixed(Names):
        async def addresses(self, host: str) -> list:  # type: ignore[type-arg]
            if host == NAME:
                return await table.addresses(host)
            if host.rpartition(".")[2] == "localdomain":  # a resolver on the internet would have to be asked
                raise HostError("no such name")
            return await super().addresses(host)

    table: Table = internet.names
    table.hosts[NAME] = [["127.0.0.1"]]
    async with SafeHttp(names=Mixed()) as http:
        with pytest.raises(DiscoveryError):
            await http.get(hostile(trap, url), within=20)
    assert trap.caught == []


async def test_development_mode_alone_lets_this_machine_be_asked(trap: Trap) -> None:
    async with SafeHttp(development=True) as http:
        with pytest.raises(DiscoveryError):
            await http.get(f"http://localhost:{trap.port}/", within=20)
    assert trap.caught


STAGES = ("href", "jwks_uri", "webfinger_redirect", "configuration_redirect", "keys_redirect")


def plant(internet: Internet, stage: str, url: str) -> None:
    """Let a mail domain or its provider name a hostile URL at one stage of discovery."""
    location = {"Location": url.replace("\r", "").replace("\n", "").encode().decode("latin-1")}
    internet.mail_domain(DOMAIN, url if stage == "href" else f"https://{IDP}")
    internet.provider(IDP, **({"jwks_uri": url} if stage == "jwks_uri" else {}))
    places = {
        "webfinger_redirect": (DOMAIN, "/.well-known/webfinger"),
        "configuration_redirect": (IDP, "/.well-known/openid-configuration"),
        "keys_redirect": (IDP, "/keys"),
    }
    if stage in places:
        internet.serve(*places[stage], {}, status=302, headers=location)


@pytest.mark.parametrize("stage", STAGES)
async def test_login_for_a_hostile_domain_is_a_mail_and_springs_no_trap_at_any_stage(
    make_broker: MakeBroker, internet: Internet, trap: Trap, stage: str
) -> None:
    """One broker a stage, one mail domain after another; the domains' own servers are reached as on the internet."""
    internet.names.hosts[NAME] = [["127.0.0.1"]]
    async with make_broker(http=internet.http()) as broker:
        for url in HOSTILE:
            await forget_answers(broker)
            plant(internet, stage, hostile(trap, url))
            answer = await broker.authorize(login_hint=f"a@{DOMAIN}")
            assert answer.status_code == 200, url
    assert {address for address, _ in internet.network.connected} == {"93.184.216.34"}
    assert trap.caught == []


async def forget_answers(broker: Broker) -> None:
    keys = [key async for key in broker.store.client.scan_iter("fetch:*")]
    if keys:
        await broker.store.client.delete(*keys)

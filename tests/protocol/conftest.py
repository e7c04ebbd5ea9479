"""A broker with rules to break: whom it serves, which domains it knows, how often one may try."""

from __future__ import annotations

import itertools
import socketserver
import threading
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import httpx
import pytest
from tests.conftest import MakeStack
from tests.stack import BOUND, Stack

SITE = "https://site.example"
LIMIT = 3  # attempts an address

_NUMBERS = itertools.count(1)


class Names(socketserver.BaseRequestHandler):
    """DNS: every domain takes mail, but those below `nowhere.example`."""

    def handle(self) -> None:
        data, socket = self.request
        query = dns.message.from_wire(data)
        name, kind = str(query.question[0].name), query.question[0].rdtype
        answer = dns.message.make_response(query)
        if name.endswith("nowhere.example."):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif kind == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "93.184.216.34"))
        socket.sendto(answer.to_wire(), self.client_address)


@pytest.fixture(scope="session")
def resolver() -> Iterator[str]:
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Names) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def strict_stack(make_stack: MakeStack, resolver: str) -> Iterator[Stack]:
    """A broker of `SITE` alone."""
    settings = {
        "allowed_origins": SITE,
        "blocked_domains": "blocked.example",
        "verify_with_resolver": resolver,
        "limits": f"email:{LIMIT}/h",
    }
    with make_stack(**settings) as running:
        yield running


@pytest.fixture(scope="session")
def client(strict_stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict_stack.broker, timeout=BOUND) as opened:
        yield opened


@pytest.fixture
def new_address() -> Callable[[], str]:
    return lambda: f"person{next(_NUMBERS)}@protocol.example"

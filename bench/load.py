"""Whole logins as a client sees them: what every measurement here is made of."""

import asyncio
import quopri
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from http_client import Connection

SITE = "https://site.example"
CODE = re.compile(rb"/confirm\?session=([A-Za-z0-9_-]{43})&code=([a-z0-9]{12})")
# Default limits, but for a number that one network may reach; no discovery, since it would leave this machine.
SETTINGS = """
smtp_server = "{smtp_server}"
smtp_security = "off"
from_address = "login@bench.example"
mail_concurrency = 100
limits = ["ip:100000/s", "ip:extend_window:100000/5s", "ip:email:30/h", "ip:email:decr_complete:5/15m",
          "ip:email:origin:decr_complete:2/15m"]
[domain_overrides]
"bench.example" = []
"""
MAIL_BOUND = 30.0  # seconds a client waits for its mail


class RefusedError(Exception):
    """A login did not go as it should."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What a login's mail holds, and when the mail server took it (CLOCK_MONOTONIC)."""

    session: str
    code: str
    accepted: float


@dataclass
class Load:
    """Many clients, the mails that they wait for, and how long each login took.

    `client` is a closed loop: who waits asks for nothing meanwhile. Arrivals at a rate of their own are arrivals.py's.
    """

    port: int
    waiting: dict[str, "asyncio.Future[Mail]"] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stop_at: float = 0.0

    def delivered(self, recipient: str, mail: bytes) -> None:
        """Give a mail that the server has taken to the client that waits for it."""
        found = CODE.search(mail) or CODE.search(quopri.decodestring(mail))
        waiting = self.waiting.get(recipient)
        if found and waiting is not None and not waiting.done():
            waiting.set_result(Mail(found[1].decode(), found[2].decode(), time.monotonic()))

    async def client(self, number: int) -> None:
        """Log in again and again on one connection."""
        connection = await Connection.open("127.0.0.1", self.port)
        count = 0
        while time.monotonic() < self.stop_at:
            count += 1
            address = f"person-{number}-{count}@bench.example"
            began = time.monotonic()
            problem = await self.login(connection, address)
            if problem:
                self.failures.append(problem)
            else:
                self.seconds.append(time.monotonic() - began)
        connection.close()

    async def login(self, connection: Connection, address: str) -> str | None:
        """Log in once; gives what went wrong, or None."""
        try:
            await self.confirm(connection, await self.begin(connection, address))
        except RefusedError as error:
            return str(error)
        return None

    async def begin(self, connection: Connection, address: str) -> Mail:
        """Begin a login and wait for its mail.

        Raises:
            RefusedError: that went wrong.
        """
        request = {
            "client_id": SITE,
            "redirect_uri": f"{SITE}/callback",
            "response_type": "id_token",
            "response_mode": "fragment",
            "scope": "openid email",
            "nonce": "n",
            "state": "s",
            "login_hint": address,
        }
        mail: asyncio.Future[Mail]
        mail = self.waiting[address] = asyncio.get_running_loop().create_future()
        try:
            status, _, _ = await connection.get("/auth?" + urlencode(request, quote_via=quote))
            if status != 200:
                raise RefusedError(f"/auth answered {status}")
            async with asyncio.timeout(MAIL_BOUND):
                return await mail
        except TimeoutError:
            raise RefusedError("no mail came") from None
        finally:
            del self.waiting[address]

    async def confirm(self, connection: Connection, mail: Mail) -> None:
        """End a login with the code of its mail.

        Raises:
            RefusedError: no ID token comes back.
        """
        form = f"session={mail.session}&code={mail.code}&device_ok=1"
        status, head, _ = await connection.post("/confirm", form)
        if status != 303 or b"id_token=" not in head:
            raise RefusedError(f"/confirm answered {status}")


async def run(load: Load, *, clients: int, seconds: float) -> float:
    """Let the clients work for that long; gives how long it really was."""
    began = time.monotonic()
    load.stop_at = began + seconds
    await asyncio.gather(*(load.client(number) for number in range(clients)))
    return time.monotonic() - began


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Give p50, p95 and p99."""
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [values[0]] * 99
    return cuts[49], cuts[94], cuts[98]

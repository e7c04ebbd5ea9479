"""Whole logins at a rate, with little work of its own: its client and its mail server are those of bench/."""

from __future__ import annotations

import asyncio
import contextlib
import quopri
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlencode, urlsplit

from tests.faults.broker import Broker, asked

from bench.http_client import Connection
from bench.sink import SinkProtocol

RATE = 100  # logins a second
MOST = 300  # that go on at once: a machine that can't carry the rate is to be slow, not to break down
IDLE = 30.0  # seconds after which a connection is not used again: fewer than auth-api keeps one
BOUND = 60.0  # seconds for a login to come to its end
_LINK = re.compile(rb"/confirm\?session=([A-Za-z0-9_-]{43})&code=([a-z0-9]{12})")


async def until_so(condition: Callable[[], object]) -> None:
    """Wait until a function, which may block, gives something true."""
    async with asyncio.timeout(BOUND):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


@dataclass
class Load:
    """Logins that arrive at a rate of their own, each by both auth-apis, and what became of them (monotonic times)."""

    begun: dict[str, float] = field(default_factory=dict)  # answered with 200
    ended: dict[str, float] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)  # told that there is no such login (any more)
    told: list[float] = field(default_factory=list)  # 503 with Retry-After
    wrong: list[str] = field(default_factory=list)  # anything else
    seconds: float = 0.0  # for which logins have arrived
    _numbers: Iterator[int] = field(default_factory=count)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST))
    _ports: list[int] = field(default_factory=list)
    _idle: dict[int, list[tuple[float, Connection]]] = field(default_factory=lambda: {0: [], 1: []})  # since when
    _mails: dict[str, asyncio.Future[tuple[str, str]]] = field(default_factory=dict)

    @property
    def carried(self) -> float:
        """Logins a second that really came."""
        return (len(self.begun) + len(self.told)) / self.seconds

    @property
    def mailed(self) -> set[str]:
        """Whose mails have come."""
        return {address for address, mail in self._mails.items() if mail.done() and not mail.cancelled()}

    @contextlib.asynccontextmanager
    async def mail_server(self) -> AsyncIterator[int]:
        """Take mails while the block runs; gives the port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SinkProtocol(self._delivered, 0.0), "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    @contextlib.asynccontextmanager
    async def going_on(self, running: Broker) -> AsyncIterator[None]:
        """Let logins arrive while the block runs, and wait for the end of those that have been begun."""
        self._ports = [urlsplit(url).port or 0 for url in running.urls]
        began = time.monotonic()
        async with asyncio.TaskGroup() as logins:
            arriving = logins.create_task(self._arrive(logins))
            try:
                yield
            finally:
                arriving.cancel()
                self.seconds = time.monotonic() - began
        for idle in self._idle.values():
            while idle:
                idle.pop()[1].close()

    async def _arrive(self, logins: asyncio.TaskGroup) -> None:
        due = time.monotonic()
        while True:
            number = next(self._numbers)
            due += random.expovariate(RATE)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._turns.acquire()
            login = logins.create_task(self._log_in(f"p{number}@example.org", number % 2))
            login.add_done_callback(lambda _: self._turns.release())

    async def _log_in(self, address: str, api: int) -> None:
        mail = self._mails[address] = asyncio.get_running_loop().create_future()
        if not await self._asks(api, f"/auth?{urlencode(asked(address))}"):
            return
        self.begun[address] = time.monotonic()
        ends = time.monotonic() + BOUND
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + BOUND):
                session, code = await mail
        except TimeoutError:
            return
        form = urlencode({"session": session, "code": code, "device_ok": "1"})
        while not await self._asks(1 - api, "/confirm", form, address):
            if time.monotonic() > ends or address in self.gone:
                return
            await asyncio.sleep(1)  # as the page does that tries again by itself
        self.ended[address] = time.monotonic()

    async def _asks(self, api: int, path: str, form: str = "", address: str = "") -> bool:
        status, head, body = await self._exchange(api, path, form)
        if status == 200:
            return True
        if status == 503 and b"retry-after:" in head.lower() and b"Traceback" not in body:
            self.told.append(time.monotonic())
        elif status == 400 and address and b"expired" in body:
            self.gone.append(address)
        else:
            self.wrong.append(f"{status} {body[:200]!r}")
        return False

    async def _exchange(self, api: int, path: str, form: str) -> tuple[int, bytes, bytes]:
        idle = self._idle[api]
        while idle and time.monotonic() - idle[0][0] > IDLE:
            idle.pop(0)[1].close()
        async with asyncio.timeout(30):
            connection = idle.pop()[1] if idle else await Connection.open("127.0.0.1", self._ports[api])
            try:
                answer = await (connection.post(path, form) if form else connection.get(path))
            except BaseException:
                connection.close()
                raise
        if b"connection: close" in answer[1].lower():
            connection.close()
        else:
            idle.append((time.monotonic(), connection))
        return answer

    def _delivered(self, address: str, mail: bytes) -> None:
        found = _LINK.search(quopri.decodestring(mail))
        awaited = self._mails.get(address)
        if found and awaited and not awaited.done():
            awaited.set_result((found[1].decode(), found[2].decode()))

"""A small real HTTP server for tests: it keeps each request as it came, and answers as told, or worse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

CLOSE = b""  # in place of an answer: drop the connection
HANG = None  # in place of an answer: none, ever


def answer(status: int, body: object = None, **headers: str) -> bytes:
    """An HTTP answer; what is not octets already becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(slots=True)
class Request:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class ApiServer:
    """`async with ApiServer() as server:` listens on a loopback port.

    `answers` is asked for each request; `drip` are seconds between the octets of an answer's
    body; with `closes` the connection ends after each answer.
    """

    answers: Callable[[Request], bytes | None] = lambda _request: answer(200)
    tls: ssl.SSLContext | None = None
    drip: float = 0.0
    closes: bool = False
    received: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while await self._exchange(reader, writer):
                pass
        self._open.discard(writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = await reader.readexactly(1)
        if not first.isalpha():  # a TLS handshake, where there is no TLS
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.rstrip("\r\n").split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        request = Request(line, headers, body)
        self.received.append(request)
        reply = self.answers(request)
        if reply is HANG:
            await asyncio.Event().wait()
        if not reply:
            return False
        head_end = reply.find(b"\r\n\r\n") + 4
        for octet in range(head_end, len(reply)) if self.drip else ():
            writer.write(reply[:head_end] if octet == head_end else b"")
            writer.write(reply[octet : octet + 1])
            await asyncio.sleep(self.drip)
        if not self.drip:
            writer.write(reply)
        await writer.drain()
        return not self.closes

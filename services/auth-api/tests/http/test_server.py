"""What the server itself answers, before any route."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import PlainTextResponse

from auth_api.server import open_listener, serving


async def first_line(port: int, request: bytes) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return line


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /x?y=1 HTTP/1.1", 200),
        (b"GET http://site.example/x HTTP/1.1", 400),
        (b"GET https://localhost/ HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 400),
        (b"CONNECT site.example:443 HTTP/1.1", 400),
        (b"nonsense", 400),
    ],
)
async def test_only_paths_are_taken_as_request_targets(request_line: bytes, status: int) -> None:
    listener = open_listener("127.0.0.1", 0)
    async with serving(PlainTextResponse("here"), listener, count_connection=lambda: None):
        line = await first_line(listener.getsockname()[1], request_line + b"\r\nHost: localhost\r\n\r\n")
    assert line.startswith(b"HTTP/1.1 %d" % status)

"""What the server itself answers, before any route."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from auth_api import server
from auth_api.server import open_listener, serving


async def first_line(port: int, request: bytes) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return line


async def test_who_connects_before_the_service_is_built_waits_for_it() -> None:
    listener = open_listener("127.0.0.1", 0)
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with serving(PlainTextResponse("here"), listener, count_connection=lambda: None):
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()


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


async def test_head_that_goes_on_and_on_is_refused() -> None:
    listener = open_listener("127.0.0.1", 0)
    async with serving(PlainTextResponse("here"), listener, count_connection=lambda: None), asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nx: ")
        line = asyncio.create_task(reader.readline())
        while not line.done():
            writer.write(b"x" * 4096)
            await asyncio.sleep(0)
        writer.close()
    assert (await line).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"]
)
async def test_request_that_does_not_arrive_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(server, "REQUEST_BOUND", 0.2)
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    listener = open_listener("127.0.0.1", 0)
    async with serving(app, listener, count_connection=lambda: None), asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        if b"\r\n\r\n" in sent:
            await ended.wait()


async def test_answer_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_BOUND", 0.5)
    listener = open_listener("127.0.0.1", 0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # A silent connection that is opened later than the request's is closed by the bound: that of ours is over, too.
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.read() == b""
        writer.close()
        await PlainTextResponse("here")(scope, receive, send)

    async with serving(app, listener, count_connection=lambda: None):
        line = await first_line(listener.getsockname()[1], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert line.startswith(b"HTTP/1.1 200")

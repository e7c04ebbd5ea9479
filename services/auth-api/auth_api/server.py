"""Serving the app with uvicorn, started and stopped by us."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address

import uvicorn
from httptools import HttpParserError
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from auth_api.errors import ListenError
from service_kit.systemd import activated_socket

BACKLOG = 1024
KEEP_ALIVE = 75  # seconds an idle connection is kept: longer than usual proxies keep theirs
DRAIN = 15  # seconds that open requests have to end
POLL = 0.01


class _OriginFormProtocol(HttpToolsProtocol):
    """Refuses request targets that name another host's URL (RFC 9112 section 3.2.2): this is no proxy."""

    def on_headers_complete(self) -> None:
        """Take only paths; the parser's error becomes a 400."""
        if not self.url.startswith(b"/"):
            raise HttpParserError("the request target must be a path")
        super().on_headers_complete()


def _counting(count_connection: Callable[[], None]) -> type[HttpToolsProtocol]:
    """Make the protocol that calls this for every connection."""

    class Counting(_OriginFormProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            count_connection()
            super().connection_made(transport)

    return Counting


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: they are service_kit's."""
        yield


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, *, count_connection: Callable[[], None]
) -> AsyncIterator[None]:
    """Serve while the block runs; on the way out new requests are refused and open ones end."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=_counting(count_connection),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    while not server.started and not task.done():  # noqa: ASYNC110
        await asyncio.sleep(POLL)  # uvicorn offers no event to wait for
    try:
        yield
    finally:
        server.should_exit = True
        await task


def open_listener(ip: str, port: int) -> socket.socket:
    """Open the listening socket, or take over the one that a service manager passed.

    Raises:
        ListenError: the address can't be had.
    """
    passed = activated_socket()
    if passed is not None:
        return passed
    family = socket.AF_INET6 if ip_address(ip).version == 6 else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ip, port))
    except OSError as error:
        listener.close()
        raise ListenError(
            f"can't listen on {ip} port {port}: {error.strerror}; set listen_ip and listen_port to what is free"
        ) from error
    return listener

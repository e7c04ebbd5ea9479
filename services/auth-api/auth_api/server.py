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
MAX_HEAD = 65_536  # octets of a request line and its headers
REQUEST_BOUND = 60.0  # seconds for a whole request to arrive: slow networks included, slow attackers not


class _BoundedProtocol(HttpToolsProtocol):
    """Bounds what uvicorn leaves unbounded: how long a request's head is, and how long a request takes to arrive.

    Refuses request targets that name another host's URL, too (RFC 9112 section 3.2.2): this is no proxy.
    """

    _head: int | None = 0  # octets received of a head that is not whole; None while there is none
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that goes on and on is refused."""
        super().data_received(data)
        if self._head is None:
            return
        self._head += len(data)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"The head of the request is longer than {MAX_HEAD} octets.")

    def on_message_begin(self) -> None:
        """Begin to wait for the rest."""
        super().on_message_begin()
        self._head = 0
        self._wait()

    def on_headers_complete(self) -> None:
        """Take only paths; the parser's error becomes a 400."""
        self._head = None
        if not self.url.startswith(b"/"):
            raise HttpParserError("the request target must be a path")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: how long the answer takes is for the app to bound."""
        super().on_message_complete()
        self._stop_waiting()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_BOUND, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _counting(count_connection: Callable[[], None]) -> type[HttpToolsProtocol]:
    """Make the protocol that calls this for every connection."""

    class Counting(_BoundedProtocol):
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
        log_level="error",  # its warnings are one a request that scanners send
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
    """Open the listening socket, or take over the one that a service manager passed; who connects waits to be served.

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
        listener.listen(BACKLOG)  # now, not when uvicorn gets to it: the internal port may say "ready" before that
    except OSError as error:
        listener.close()
        raise ListenError(
            f"can't listen on {ip} port {port}: {error.strerror}; set listen_ip and listen_port to what is free"
        ) from error
    return listener

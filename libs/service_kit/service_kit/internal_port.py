"""The port for the machinery around a service: /healthz, /readyz and /metrics, and nothing else.

It is served by threads of its own, so that a stuck event loop is noticed instead of hiding behind its own silence.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import structlog
from prometheus_client.exposition import choose_encoder

from service_kit.errors import InternalPortError
from service_kit.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from prometheus_client import CollectorRegistry

    from service_kit.settings import CommonSettings
    from service_kit.stopping import Stop

log = structlog.stdlib.get_logger()

LOOP_BOUND = 2.0  # an event loop that does not answer for this long is stuck
REQUEST_BOUND = 16 * 1024
READ_SECONDS = 5.0
MOST_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of readiness: returns when it holds, raises with the reason when it does not."""

    name: str
    check: Callable[[], Awaitable[object]]
    bound: float = 2.0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of this port."""

    status: int
    body: bytes
    content_type: str = "application/json"


class InternalPort:
    """`async with InternalPort(host, port, checks=…, registry=…):` serves while the block runs.

    `doctor` gives what /readyz says of the store beside the checks; that makes nothing ready or not.
    Port 0 takes any free one, and None opens none at all; `port` tells the one in use.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        registry: CollectorRegistry,
        checks: Sequence[Check] = (),
        doctor: Callable[[], Mapping[str, object]] | None = None,
        stop: Stop | None = None,
        loop_bound: float = LOOP_BOUND,
    ) -> None:
        self._host = host
        self._asked = port
        self._registry = registry
        self._checks = tuple(checks)
        self._doctor = doctor
        self._stop = stop
        self._loop_bound = loop_bound
        self._server: _Server | None = None

    @classmethod
    def of(
        cls,
        settings: CommonSettings,
        *,
        registry: CollectorRegistry,
        checks: Sequence[Check] = (),
        doctor: Callable[[], Mapping[str, object]] | None = None,
        stop: Stop | None = None,
    ) -> Self:
        """The port that the settings ask for; none when internal_port is 0."""
        port = settings.internal_port or None
        return cls(settings.internal_ip, port, registry=registry, checks=checks, doctor=doctor, stop=stop)

    @property
    def port(self) -> int | None:
        """The port in use, None while there is none."""
        return self._server.server_address[1] if self._server else None

    async def __aenter__(self) -> Self:
        if self._asked is None:
            return self
        self._loop = asyncio.get_running_loop()
        try:
            self._server = _Server((self._host, self._asked), self._answer)
        except OSError as error:
            raise InternalPortError(
                f"cannot listen on {self._host} port {self._asked}: {error.strerror or error}; "
                "set internal_port to a free port, or to 0 to have none"
            ) from None
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="internal-port", daemon=True).start()
        log.info("internal_port_open", host=self._host, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def _answer(self, path: str, accept: str) -> Response:
        """Runs in a thread of the server."""
        if path == "/healthz":
            return self._health()
        if path == "/readyz":
            return self._readiness()
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return Response(200, encode(self._registry), content_type)
        return _json(404, {"error": "there are /healthz, /readyz and /metrics here"})

    def _health(self) -> Response:
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        if answered.wait(self._loop_bound):
            return _json(200, {"alive": True})
        return _json(503, {"alive": False, "reason": f"the event loop has not answered for {self._loop_bound} s"})

    def _readiness(self) -> Response:
        bound = self._loop_bound + max((check.bound for check in self._checks), default=0)
        asked = asyncio.run_coroutine_threadsafe(self._run_checks(), self._loop)
        try:
            results = asked.result(bound)
        except TimeoutError:
            asked.cancel()
            results = [{"name": "event_loop", "ready": False, "reason": f"has not answered for {bound} s"}]
        ready = all(result["ready"] for result in results)
        content = {"ready": ready, "checks": results} | ({"doctor": self._doctor()} if self._doctor else {})
        return _json(200 if ready else 503, content)

    async def _run_checks(self) -> list[dict[str, object]]:
        results = list(await asyncio.gather(*map(_run_check, self._checks)))
        if self._stop is not None and self._stop.requested:
            results.append({"name": "running", "ready": False, "reason": f"stopping: {self._stop.reason}"})
        return results


async def _run_check(check: Check) -> dict[str, object]:
    try:
        async with asyncio.timeout(check.bound):
            await check.check()
    except TimeoutError:
        reason = f"no answer within {check.bound} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
        reason = redact_text(str(error)) or type(error).__name__
    else:
        return {"name": check.name, "ready": True}
    return {"name": check.name, "ready": False, "reason": reason}


def _json(status: int, content: dict[str, object]) -> Response:
    return Response(status, json.dumps(content).encode() + b"\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], answer: Callable[[str, str], Response]) -> None:
        self.address_family = socket.AF_INET6 if ipaddress.ip_address(address[0]).version == 6 else socket.AF_INET
        self.answer = answer
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Refuse the connection at once when as many as allowed are open."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Serve one connection, then make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A client that goes away is no event; anything else is logged."""
        log.debug("internal_port_connection_failed", exc_info=True)  # noqa: LOG014 - called from a handler


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "internal"
    sys_version = ""
    timeout = READ_SECONDS

    def setup(self) -> None:
        """Read the head of the request as a whole, within bounds of size and time."""
        super().setup()
        self.rfile.close()
        self.rfile = BytesIO(self._read_head())

    def _read_head(self) -> bytes:
        head, deadline = b"", time.monotonic() + READ_SECONDS
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            self.connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self.connection.recv(4096)
            except OSError:
                return b""
            if not part or len(head) + len(part) > REQUEST_BOUND:
                return b""
            head += part
        self.connection.settimeout(READ_SECONDS)
        return head

    def do_GET(self) -> None:
        """Answer GET, and HEAD without the body; the base class refuses other methods."""
        response = self.server.answer(urlsplit(self.path).path, self.headers.get("Accept", ""))
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Probes come every few seconds; they are not events."""

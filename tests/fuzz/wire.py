"""Requests as octets: what no HTTP client library would send."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

BOUND = 60.0  # seconds until an answer counts as missing


@dataclass(frozen=True)
class Answer:
    """What came back; header names in lower case, the last of several."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Wire:
    """A connection that is opened when it is needed, and kept as long as both sides like."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def ask(self, request: bytes, method: str) -> Answer:
        """Send a request that has to be answered; on a connection of its own once more if the kept one has ended."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionError, HTTPException):
                return self._exchange(request, method)
            self.close()
        return self._exchange(request, method)

    def tell(self, request: bytes, *, cut: bool) -> Answer | None:
        """Send octets that may be no request at all, perhaps ending there; None where the server just hangs up."""
        self.close()
        try:
            with contextlib.suppress(OSError):  # it may have answered and hung up before it had all
                self._open().sendall(request)
                if cut:
                    self._open().shutdown(socket.SHUT_WR)
            return self._read("GET")
        except (ConnectionError, HTTPException):
            return None
        finally:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, BOUND)
        return self._socket

    def _exchange(self, request: bytes, method: str) -> Answer:
        self._open().sendall(request)
        return self._read(method)

    def _read(self, method: str) -> Answer:
        with contextlib.closing(HTTPResponse(self._open(), method=method)) as response:
            response.begin()
            answer = Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
            if response.will_close:
                self.close()
        return answer

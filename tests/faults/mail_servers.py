"""Mail servers and a mail API that are slow, refuse, hang up, or ask to be left alone, as a test tells them."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from tests.faults.broker import Catcher

from shared_store.testing.servers import free_port


@dataclass
class Behaviour:
    """How a mail server behaves, from the next connection or command on; times in seconds."""

    greets_after: float = 0.0
    answers_after: float = 0.0  # the content of a mail
    hangs_up: int = 0  # so many mails are taken without a reply
    refuses: dict[str, str] = field(default_factory=dict)  # recipients, with the reply
    password: str = ""
    tls: ssl.SSLContext | None = None  # offers STARTTLS


class MailServer:
    """A mail server on a port of its own, whose mails come into a mailbox; `with MailServer(mailbox) as server:`.

    Attributes:
        taken: recipient and Message-ID of each mail whose content it had, whether it answered or not.
        most: the most connections that were open at the same time.
    """

    def __init__(self, mailbox: Catcher) -> None:
        self.behaviour = Behaviour()
        self.port = free_port()
        self.taken: list[tuple[str, str]] = []
        self.most = 0
        self.open: set[_Connection] = set()
        self._mailbox = mailbox
        self._controller: Controller | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        behaviour = self.behaviour
        signing_in: dict[str, Any] = {"authenticator": self._authenticate} if behaviour.password else {}
        server = self

        class Listening(Controller):
            def factory(self) -> SMTP:
                return _Connection(server, self.handler, **self.SMTP_kwargs)

        self._controller = Listening(
            self, hostname="127.0.0.1", port=self.port, tls_context=behaviour.tls, enable_SMTPUTF8=True, **signing_in
        )
        self._controller.start()

    def stop(self) -> None:
        """Be gone, with all connections."""
        if self._controller is not None:
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._controller.loop).result(10)
            self._controller.stop()
            self._controller = None

    def restart(self, behaviour: Behaviour) -> None:
        """Begin anew, as one that behaves so."""
        self.stop()
        self.behaviour = behaviour
        self.start()

    async def _hang_up(self) -> None:
        assert self._controller is not None
        assert self._controller.server is not None
        self._controller.server.close()
        for connection in self.open:
            connection.abort()
        while self.open:
            await asyncio.sleep(0.01)  # asyncio tells them in its next round

    def count(self, address: str) -> int:
        """How often it took a mail to an address."""
        return sum(to == address for to, _ in self.taken)

    @property
    def name(self) -> str:
        """The transport that sends by it, where there are several servers."""
        return f"smtp 127.0.0.1:{self.port}"

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        right = isinstance(data, LoginPassword) and data.password.decode() == self.behaviour.password
        return AuthResult(success=right, handled=False)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient or not (called by aiosmtpd)."""
        if address in self.behaviour.refuses:
            return self.behaviour.refuses[address]
        return await self._mailbox.handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail (called by aiosmtpd)."""
        assert isinstance(envelope.content, bytes)
        message_id = str(message_from_bytes(envelope.content)["Message-ID"])
        await asyncio.sleep(self.behaviour.answers_after)
        self.taken += [(address, message_id) for address in envelope.rcpt_tos]
        if self.behaviour.hangs_up:
            self.behaviour.hangs_up -= 1
            assert isinstance(server, _Connection)
            server.abort()
        return await self._mailbox.handle_DATA(server, session, envelope)


class _Connection(SMTP):
    def __init__(self, server: MailServer, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.transport is None:  # else TLS begins on it
            self._server.open.add(self)
            self._server.most = max(self._server.most, len(self._server.open))
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.open.discard(self)
        super().connection_lost(error)

    def abort(self) -> None:
        """Close the connection without a word."""
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.abort()

    async def _handle_client(self) -> None:
        await asyncio.sleep(self._server.behaviour.greets_after)
        await super()._handle_client()


@dataclass(frozen=True)
class Called:
    """One request: when it came (Unix time), its method, whose mail it brought, under which id, and what it got."""

    at: float
    method: str
    to: str
    mail_id: str
    status: int


class MailApi:
    """A program behind `mail_webhook_url` that puts mails into a mailbox, unless it answers with 429.

    `wait` gives the Retry-After to answer with; None to take the mail.
    """

    def __init__(self, mailbox: Catcher) -> None:
        self.calls: list[Called] = []
        self.wait: Callable[[], str | None] = lambda: None
        self.url = ""
        self._mailbox = mailbox

    def __enter__(self) -> Self:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(body)

            def do_HEAD(self) -> None:
                self._answer({"to": ""})

            def _answer(self, body: dict[str, str]) -> None:
                wait = api.wait()
                status = 200 if wait is None else 429
                api.calls.append(
                    Called(time.time(), self.command, body["to"], self.headers.get("webhook-id", ""), status)
                )
                if wait is None and body["to"]:
                    api._mailbox.put([body["to"]], body["text"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if wait is not None:
                    self.send_header("Retry-After", wait)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/mails"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

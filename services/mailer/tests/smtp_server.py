"""A small real SMTP server for tests: asyncio, pipelining, and faults on demand at every stage.

Its log counts what it answered 250 to, so that tests can tell lost mails and duplicates apart from luck.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Self, cast

CLOSE = "close"  # a fault: drop the connection without a word
HANG = "hang"  # a fault: never answer


@dataclass(slots=True)
class Received:
    """One mail that was accepted."""

    sender: str
    recipient: str
    options: str
    content: bytes
    tls: bool

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed by the standard library."""
        parsed = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass(slots=True)
class Rules:
    """How the server behaves.

    `answer` is asked at every stage (greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, content, RSET, NOOP, QUIT) with
    the recipient known so far: None lets things go their way, a text is the reply, CLOSE and HANG are faults.
    """

    answer: Callable[[str, str], str | None] = lambda _stage, _recipient: None
    delay: float = 0.0  # seconds between content and its reply
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8")
    tls: ssl.SSLContext | None = None  # offers STARTTLS
    implicit_tls: bool = False
    after: Callable[[Received], str | None] = lambda _mail: None  # told of each accepted mail; CLOSE or HANG: no reply
    mails_per_connection: int = 1_000_000_000
    auth: tuple[str, str] | None = None
    mechanisms: str = "PLAIN"
    starttls_reply: str = "220 2.0.0 go"  # what goes out in the clear before the handshake


@dataclass(slots=True)
class SmtpServer:
    """`async with SmtpServer(rules) as server:` listens on a loopback port."""

    rules: Rules = field(default_factory=Rules)
    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    open: set[_Connection] = field(default_factory=set)
    most_open: int = 0
    port: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        loop = asyncio.get_running_loop()
        context = self.rules.tls if self.rules.implicit_tls else None
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        self.drop_connections()
        await self._server.wait_closed()

    def drop_connections(self) -> None:
        """Close all connections without a word."""
        for connection in list(self.open):
            connection.close()

    def forsake_connections(self) -> None:
        """Never answer on these connections again, nor close them: as when a host is gone from the network."""
        for connection in self.open:
            connection.forsaken = True

    @property
    def recipients(self) -> list[str]:
        """Who got a mail, in order, as often as they got one."""
        return [mail.recipient for mail in self.received]


class _Connection(asyncio.Protocol):
    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._rules = server.rules
        self._buffer = bytearray()
        self._in_data = False
        self._tls = False
        self._mails = 0
        self._busy: asyncio.Task[None] | None = None
        self._auth_lines: list[str] = []
        self._challenges: list[str] = []
        self.forsaken = False
        self._clear()

    def _clear(self) -> None:
        self._sender = self._recipient = self._options = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        again = self in self._server.open
        self._transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("sslcontext") is not None
        if again:
            return
        self._server.connections += 1
        self._server.open.add(self)
        self._server.most_open = max(self._server.most_open, len(self._server.open))
        self._say("greeting", "220 test ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the name is asyncio's
        self._server.open.discard(self)
        if self._busy is not None:
            self._busy.cancel()

    def close(self) -> None:
        self._transport.abort()

    def _say(self, stage: str, usual: str) -> bool:
        """Answer; tells whether things took their usual way."""
        answer = self._rules.answer(stage, self._recipient)
        if answer == CLOSE:
            self.close()
        elif answer != HANG:
            self._transport.write((answer or usual).encode() + b"\r\n")
        return answer is None

    def data_received(self, data: bytes) -> None:
        if self.forsaken:
            return
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while self._busy is None and not self._transport.is_closing():
            end = self._buffer.find(b"\r\n.\r\n" if self._in_data else b"\r\n")
            if self._in_data and self._buffer.startswith(b".\r\n"):
                del self._buffer[:3]
                self._in_data = False
                self._say("content", "554 empty")
                continue
            if end < 0:
                return
            line = bytes(self._buffer[:end])
            if self._in_data:
                del self._buffer[: end + 5]
                self._in_data = False
                self._busy = asyncio.ensure_future(self._take(line + b"\r\n"))
            else:
                del self._buffer[: end + 2]
                self._command(line.decode())

    async def _take(self, content: bytes) -> None:
        if self._rules.delay:
            await asyncio.sleep(self._rules.delay)
        content = content.replace(b"\r\n..", b"\r\n.")
        answer = self._rules.answer("content", self._recipient)
        if answer is None:
            mail = Received(self._sender, self._recipient, self._options, content, self._tls)
            self._server.received.append(mail)
            self._mails += 1
            answer = self._rules.after(mail) or "250 2.0.0 taken"
        if answer == CLOSE:
            self.close()
        elif answer != HANG:
            self._transport.write(answer.encode() + b"\r\n")
        self._clear()
        self._busy = None
        self._go_on()

    def _command(self, line: str) -> None:
        self._server.commands.append(line)
        if self._challenges:
            self._auth_lines.append(base64.b64decode(line).decode())
            self._go_on_with_auth()
            return
        verb, _, rest = line.partition(" ")
        handler = getattr(self, f"_do_{verb.lower()}", None)
        if handler is None:
            self._transport.write(b"500 5.5.1 what?\r\n")
        else:
            handler(rest)

    def _do_ehlo(self, _rest: str) -> None:
        offers = [*self._rules.extensions]
        if self._rules.tls is not None and not self._tls:
            offers.append("STARTTLS")
        if self._rules.auth is not None:
            offers.append(f"AUTH {self._rules.mechanisms}")
        lines = ["test", *offers]
        reply = "\r\n".join(f"250{'-' if number < len(lines) - 1 else ' '}{text}" for number, text in enumerate(lines))
        self._say("EHLO", reply)

    def _do_helo(self, _rest: str) -> None:
        self._say("HELO", "250 test")

    def _do_starttls(self, _rest: str) -> None:
        if self._say("STARTTLS", self._rules.starttls_reply):
            self._busy = asyncio.ensure_future(self._start_tls())

    async def _start_tls(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._rules.tls is not None
        with contextlib.suppress(OSError):
            transport = await loop.start_tls(self._transport, self, self._rules.tls, server_side=True)
            if transport is not None:
                self._transport, self._tls = transport, True
        self._busy = None
        self._go_on()

    def _do_auth(self, rest: str) -> None:
        self._mechanism, _, initial = rest.partition(" ")
        self._auth_lines = [base64.b64decode(initial).decode()] if initial else []
        wanted = {"PLAIN": ["x"], "LOGIN": ["Username:", "Password:"], "CRAM-MD5": ["<1.2@test>"]}[self._mechanism]
        self._challenges = wanted[len(self._auth_lines) :]
        if self._challenges:
            self._transport.write(b"334 " + base64.b64encode(self._challenges[0].encode()) + b"\r\n")
        else:
            self._go_on_with_auth()

    def _go_on_with_auth(self) -> None:
        self._challenges = self._challenges[1:]
        if self._challenges:
            self._transport.write(b"334 " + base64.b64encode(self._challenges[0].encode()) + b"\r\n")
            return
        user, password = self._rules.auth or ("", "")
        digest = hmac.new(password.encode(), b"<1.2@test>", "md5").hexdigest()
        right = {"PLAIN": [f"\x00{user}\x00{password}"], "LOGIN": [user, password], "CRAM-MD5": [f"{user} {digest}"]}
        good = self._rules.auth is not None and self._auth_lines == right[self._mechanism]
        self._say("AUTH", "235 2.7.0 welcome" if good else "535 5.7.8 no")

    def _do_mail(self, rest: str) -> None:
        if self._mails >= self._rules.mails_per_connection:
            self._transport.write(b"421 4.7.0 enough on this connection\r\n")
            self._transport.close()
            return
        address, _, options = rest.removeprefix("FROM:<").partition(">")
        if self._say("MAIL", "250 2.1.0 ok"):
            self._sender, self._options = address, options.strip()

    def _do_rcpt(self, rest: str) -> None:
        recipient = rest.removeprefix("TO:<").rpartition(">")[0]
        if not self._sender:
            self._transport.write(b"503 5.5.1 MAIL first\r\n")
            return
        answer = self._rules.answer("RCPT", recipient)
        if answer == CLOSE:
            self.close()
        elif answer != HANG:
            self._transport.write((answer or "250 2.1.5 ok").encode() + b"\r\n")
        if answer is None:
            self._recipient = recipient

    def _do_data(self, _rest: str) -> None:
        if not self._recipient and self._rules.answer("DATA", "") is None:
            self._transport.write(b"503 5.5.1 RCPT first\r\n")
            return
        answer = self._rules.answer("DATA", self._recipient)
        self._say("DATA", "354 go on")
        self._in_data = answer is None or answer.startswith("354")

    def _do_rset(self, _rest: str) -> None:
        self._clear()
        self._say("RSET", "250 2.0.0 ok")

    def _do_noop(self, _rest: str) -> None:
        self._say("NOOP", "250 2.0.0 here")

    def _do_quit(self, _rest: str) -> None:
        self._say("QUIT", "221 2.0.0 bye")
        self._transport.close()


def only(stage: str, reply: str) -> Callable[[str, str], str | None]:
    """A rule that answers one stage and leaves the rest."""
    return lambda asked, _recipient: reply if asked == stage else None


def first(stage: str, *replies: str) -> Callable[[str, str], str | None]:
    """A rule that gives these replies, one after another, at one stage, and then nothing out of the ordinary."""
    left: Iterator[str] = iter(replies)
    return lambda asked, _recipient: next(left, None) if asked == stage else None


async def _serve_alone(port: int) -> None:
    """Listen as a process of its own, which can be stopped and killed; tells each recipient on a line."""
    async with SmtpServer(Rules(after=lambda mail: print(mail.recipient, flush=True)), port=port):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_alone(int(sys.argv[1])))

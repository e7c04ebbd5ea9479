"""One open SMTP connection: mail transactions on it, pipelined where the server offers that (RFC 2920).

aiosmtplib opens connections (greeting, TLS, AUTH); this protocol then takes the connection over, since aiosmtplib
waits for every reply by itself.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from mailer.silence import Silence
from mailer.verdicts import Stage

MOST_REPLY = 64 * 1024  # octets of a reply that is not complete yet
MOST_REFUSALS = 5  # on a connection; from the tenth error on Postfix makes it wait a second for each reply
LONGEST_LIFE = 300.0  # seconds of a connection, so that it is not for ever to the address that a name had once
RESETTING = 0.5  # seconds that a server may take to forget a transaction
MOST_WAITING = 16  # replies that nobody has read yet; a transaction has three under way
_Steps = tuple[tuple[Stage, bytes, tuple[int, ...]], ...]  # each with its command and the codes that are good
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Offers:
    """What the server said it can do. `size` is the most octets of a mail; None where it says nothing, 0 for any."""

    pipelining: bool = False
    smtputf8: bool = False
    eightbit: bool = False
    size: int | None = None

    def __str__(self) -> str:
        names = {"PIPELINING": self.pipelining, "SMTPUTF8": self.smtputf8, "8BITMIME": self.eightbit}
        return ", ".join(
            [*(name for name, offered in names.items() if offered), *([f"SIZE {self.size}"] if self.size else [])]
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply: its code, and the text of its last line."""

    code: int
    text: str


class RefusedError(Exception):
    """The server refused at a stage; the connection can be used again."""

    def __init__(self, stage: Stage, reply: Reply) -> None:
        super().__init__(f"{stage} {reply.code}")
        self.stage = stage
        self.reply = reply


class LostError(Exception):
    """The connection broke, or the server talks nonsense."""


class SilentError(LostError):
    """A connection that was used before gives no answer: its other end may be gone without a word."""


class WithheldError(Exception):
    """The content was not given to the server, since the mail is not wanted any more; the connection is closed."""


class SmtpSession(asyncio.Protocol):
    """Mail transactions on one connection, one at a time.

    Attributes:
        stage: how far the transaction came, for whoever has to give it up.
        used: transactions begun on it; above 1 it may have gone stale in between.
    """

    def __init__(self, transport: asyncio.Transport, offers: Offers) -> None:
        self._transport = transport
        self.offers = offers
        self._buffer = bytearray()
        self._continued = b""  # the code of a reply of which more lines are to come
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._opened = asyncio.get_running_loop().time()
        self._refusals = 0
        self.stage = Stage.MAIL
        self.used = 0
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether the connection is there and in step: nothing came that was not asked for."""
        return not (self._lost or self._transport.is_closing() or self._replies or self._buffer or self._continued)

    @property
    def is_worn(self) -> bool:
        """Whether it has served its time: servers slow a client down by the errors on a connection."""
        age = asyncio.get_running_loop().time() - self._opened
        return self._refusals >= MOST_REFUSALS or age > LONGEST_LIFE

    def tls(self) -> ssl.SSLObject | None:
        """The TLS side of the connection, if it has one."""
        return cast(ssl.SSLObject | None, self._transport.get_extra_info("ssl_object"))

    async def transact(
        self,
        sender: str,
        recipient: str,
        content: bytes,
        *,
        utf8: bool,
        silence: Silence,
        doubt: float | None = None,
        still_wanted: Callable[[], bool] = lambda: True,
    ) -> Reply:
        """Send one mail; the server's reply to its content.

        `silence` counts until the content goes out; `doubt` are the seconds within which there has to be a first reply.

        Raises:
            WithheldError: `still_wanted` said no when all was ready for the content.
            RefusedError: the server said no, and where.
            SilentError: there was no first reply in time.
            LostError: the connection broke; `stage` tells where.
        """
        self.used += 1
        self.stage = Stage.MAIL
        size = b"" if self.offers.size is None else b" SIZE=%d" % len(content)
        options = size + (b" BODY=8BITMIME" if utf8 and self.offers.eightbit else b"") + (b" SMTPUTF8" if utf8 else b"")
        steps = (
            (Stage.MAIL, _command("MAIL FROM:<" + sender + ">") + options, (250,)),
            (Stage.RCPT, _command("RCPT TO:<" + recipient + ">"), (250, 251)),
            (Stage.DATA, b"DATA", (354,)),
        )
        take_steps = self._all_at_once if self.offers.pipelining else self._one_by_one
        try:
            async with Silence(doubt) as doubting:

                def heard() -> None:
                    silence.heard()
                    doubting.allow()

                refused = await take_steps(steps, heard)
        except TimeoutError:
            raise SilentError("no answer on a connection that was used before") from None
        silence.allow()
        if refused is not None:
            self._refusals += 1
            await self._reset()
            raise refused
        if not still_wanted():
            self.abort()
            raise WithheldError
        self.stage = Stage.CONTENT
        self._write(_stuffed(content))
        reply = await self._reply()
        if not 200 <= reply.code < 300:
            raise RefusedError(Stage.CONTENT, reply)
        return reply

    async def _one_by_one(self, steps: _Steps, heard: Callable[[], None]) -> RefusedError | None:
        for stage, line, expected in steps:
            self.stage = stage
            self._write(line + b"\r\n")
            reply = await self._reply()
            heard()
            if reply.code not in expected:
                return RefusedError(stage, reply)
        return None

    async def _all_at_once(self, steps: _Steps, heard: Callable[[], None]) -> RefusedError | None:
        self._write(b"".join(line + b"\r\n" for _, line, _ in steps))
        refused = None
        for stage, _, expected in steps:
            self.stage = stage if refused is None else self.stage
            reply = await self._reply()
            heard()
            if reply.code == 421:
                return refused or RefusedError(stage, reply)
            if refused is None and reply.code not in expected:
                refused = RefusedError(stage, reply)
            elif refused is not None and reply.code == 354:
                # Refused, yet it wants the content: an empty one ends that without a mail (RFC 2920 section 3.1).
                self._write(b".\r\n")
                await self._reply()
        return refused

    async def _reset(self) -> None:
        """Clear what is left of a refused transaction, so that the next one begins afresh; else close."""
        try:
            async with asyncio.timeout(RESETTING):
                self._write(b"RSET\r\n")
                if (await self._reply()).code == 250:
                    return
        except (TimeoutError, LostError):
            pass  # what was refused stays refused
        self.abort()

    async def noop(self) -> Reply:
        """Ask for a sign of life.

        Raises:
            LostError: the connection broke.
        """
        try:
            self._write(b"NOOP\r\n")
            return await self._reply()
        except asyncio.CancelledError:
            self.abort()
            raise

    def quit(self) -> None:
        """Say goodbye without waiting for the answer."""
        if not self._transport.is_closing():
            self._transport.write(b"QUIT\r\n")
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what was under way ends here."""
        self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._lost or self._transport.is_closing():
            raise LostError("the connection is closed")
        self._transport.write(data)

    async def _reply(self) -> Reply:
        while not self._replies:
            if self._lost:
                raise LostError("the server closed the connection")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        reply = self._replies.popleft()
        if reply.code == 421:
            self._transport.close()
        return reply

    def data_received(self, data: bytes) -> None:
        """Read replies (RFC 5321 section 4.2); anything else ends the connection."""
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            code, more = line[:3], line[3:4]
            if not code.isdigit() or more not in (b"", b" ", b"-") or self._continued not in (b"", code):
                self._end()
                return
            self._continued = code if more == b"-" else b""
            if not self._continued:
                self._replies.append(Reply(int(code), line[4:].decode("utf-8", "replace")))
        if len(self._buffer) > MOST_REPLY or len(self._replies) > MOST_WAITING:
            self._end()
        self._wake()

    def eof_received(self) -> None:
        """The server is done; nothing more will come."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """The connection is gone."""
        self._lost = True
        self._wake()

    def _end(self) -> None:
        self._lost = True
        self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _command(text: str) -> bytes:
    line = text.encode()
    if _CONTROLS.search(line):
        raise ValueError("an address holds a control character; parse_recipient lets none through")
    return line


def _stuffed(content: bytes) -> bytes:
    """The content as DATA carries it: dots at line starts doubled, ended by a dot of its own (RFC 5321 4.5.2)."""
    content = content.replace(b"\r\n.", b"\r\n..")
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")

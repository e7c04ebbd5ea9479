"""Opening an SMTP connection: TCP by the address that answers first, greeting, TLS, AUTH; and why that failed."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import aiohappyeyeballs
import aiosmtplib
from aiohappyeyeballs import AddrInfoType

from mailer.errors import TransportError
from mailer.transports.smtp_replies import judge_loss, judge_reply
from mailer.transports.smtp_session import Offers, SmtpSession
from mailer.verdicts import Stage, Verdict

CONNECTING = 2.5  # seconds that TCP may take: a packet that was lost is sent a second time after one
NEXT_ADDRESS = 0.25  # seconds until the next address is tried beside the one before (RFC 8305 section 8)
# A host that went away without a word is noticed after 5 + 3 * 3 seconds, one that started anew after 5.
KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}
_FULL_NAME = re.compile(r"(?!localhost\b)(?=.{1,255}$)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")

Security = Literal["opportunistic", "starttls", "tls", "off"]


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """Where the mail server is and how to speak to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    security: Security = "opportunistic"
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class OpeningError(Exception):
    """No usable connection; carries the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class SmtpOpener:
    """Opens connections to one server.

    Raises:
        TransportError: a certificate or key can't be read.
    """

    def __init__(self, options: SmtpOptions) -> None:
        self._options = options
        self._tls = None if options.security == "off" else _tls_context(options)
        self._own_name: str | None = None
        self._looking: asyncio.Task[Sequence[AddrInfoType]] | None = None

    async def open(self, heard: Callable[[], None]) -> SmtpSession:
        """Open a connection, ready for mails; `heard` is called at each sign of life of the server.

        Raises:
            OpeningError: that failed, and what it means.
        """
        try:
            return await self._open(heard)
        except TimeoutError as error:
            raise OpeningError(replace(judge_loss(Stage.CONNECT, "timed out"), for_all=True)) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise OpeningError(_judge(error)) from error

    async def _open(self, heard: Callable[[], None]) -> SmtpSession:
        options = self._options
        own_name = await self._name_of_this_machine()
        connected = await self._connect()
        smtp = aiosmtplib.SMTP(
            hostname=options.host,
            sock=connected,
            local_hostname=own_name or address_literal(connected.getsockname()[0]),
            use_tls=options.security == "tls",
            start_tls=False,  # done below, step by step
            tls_context=self._tls,
            timeout=None,  # whoever waits has one
        )
        try:
            await smtp.connect()
            heard()
            await _greet(smtp)
            heard()
            offered = smtp.supports_extension("starttls")
            if options.security == "starttls" or (options.security == "opportunistic" and offered):
                await smtp.starttls()
                heard()
                await _greet(smtp)
                heard()
            if options.username is not None:
                await smtp.login(options.username, options.password or "")
                heard()
            return _take_over(smtp)
        except BaseException:
            smtp.close()
            raise

    async def _connect(self) -> socket.socket:
        """Connect to the first of a host's addresses that answers (RFC 8305); uvloop itself knows no such thing."""
        async with asyncio.timeout(CONNECTING):
            found = await self._find_addresses()
            connected = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return connected

    async def _find_addresses(self) -> Sequence[AddrInfoType]:
        """Ask the resolver, once at a time: one that hangs must not take all threads, of which signing needs some."""
        if self._looking is None or self._looking.done():
            loop, options = asyncio.get_running_loop(), self._options
            self._looking = asyncio.create_task(loop.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM))
            self._looking.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # if nobody waits any more
        looking = self._looking
        await asyncio.wait({looking})  # not awaited itself: whoever gives up waiting must not end it for the others
        return looking.result()

    async def _name_of_this_machine(self) -> str:
        """What EHLO says, or "" where there is only half a name: servers refuse that, and take an address.

        It is asked of the resolver once, in a thread, since that may take its time.
        """
        if self._own_name is None:
            name = await asyncio.to_thread(socket.getfqdn)
            self._own_name = name if _FULL_NAME.fullmatch(name) else ""
        return self._own_name


def address_literal(address: str) -> str:
    """An IP address in the place of a name (RFC 5321 section 4.1.3)."""
    address = address.partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    """Say EHLO, and HELO to a server that is too old for it (RFC 5321 section 3.2)."""
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not smtp.is_connected:
            raise
        await smtp.helo()


def _take_over(smtp: aiosmtplib.SMTP) -> SmtpSession:
    transport = smtp.transport
    if transport is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    offers = Offers(
        pipelining=smtp.supports_extension("pipelining"),
        smtputf8=smtp.supports_extension("smtputf8"),
        eightbit=smtp.supports_extension("8bitmime"),
        size=_size(smtp.esmtp_extensions.get("size")),
    )
    return SmtpSession(cast(asyncio.Transport, transport), offers)  # uvloop's are none by inheritance


def _size(text: str | None) -> int | None:
    """The bound of SIZE (RFC 1870), 0 where there is none or it can't be read, None where SIZE is not offered."""
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


# At what stage aiosmtplib failed, by the exception it tells that with; the first that fits counts.
_STAGES: tuple[tuple[type[aiosmtplib.SMTPResponseException], Stage], ...] = (
    (aiosmtplib.SMTPAuthenticationError, Stage.AUTH),
    (aiosmtplib.SMTPHeloError, Stage.EHLO),
    (aiosmtplib.SMTPConnectResponseError, Stage.CONNECT),
    (aiosmtplib.SMTPResponseException, Stage.TLS),
)


def _judge(error: Exception) -> Verdict:
    """Say what it means that no connection could be opened; it is never the recipient's fault."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        stage = next(stage for kind, stage in _STAGES if isinstance(error, kind))
        malformed = error.code < 0
        return judge_loss(Stage.CONNECT, "malformed") if malformed else judge_reply(stage, error.code, error.message)
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return judge_loss(Stage.TLS, f"certificate refused: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return judge_loss(Stage.TLS, f"failed: {cause.reason}")
    if isinstance(cause, OSError) and (why := _why(cause)):
        return judge_loss(Stage.CONNECT, f"failed: {why}")
    if type(error) is aiosmtplib.SMTPException:  # its own findings: STARTTLS or AUTH wanted and not offered
        return judge_loss(Stage.TLS, _finding(error.message))
    return judge_loss(Stage.CONNECT, type(error).__name__)


def _why(error: OSError) -> str:
    """What the system says, without the addresses that libraries add; the resolver's numbers are its own."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or ""
    return os.strerror(error.errno)


def _finding(message: str) -> str:
    return "not offered: " + ("AUTH" if "AUTH" in message else "STARTTLS" if "STARTTLS" in message else "extension")


def _tls_context(options: SmtpOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.client_cert is not None:
            context.load_cert_chain(options.client_cert, options.client_key)
    except (OSError, ssl.SSLError) as error:
        raise TransportError(
            f"smtp_ca_file, smtp_client_cert or smtp_client_key can't be read: {error}; they are PEM files"
        ) from error
    return context

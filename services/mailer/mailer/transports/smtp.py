"""SMTP by aiosmtplib: a few connections kept open, each used for one mail at a time."""

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponseException

from mailer.errors import TransportError
from mailer.messages import Mail, is_one_line
from mailer.outcomes import Attempt, Stage, delivered, recipient_rejected, smtp_lost, smtp_reply
from service_kit.settings import HostPort

_LEADING_DOT = re.compile(rb"(?m)^\.")

IDLE = 20.0  # seconds after which an unused connection is not trusted any more; many servers close after 30 to 60


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """Which server, and how to speak to it; `timeout` in seconds bounds one attempt."""

    server: HostPort
    security: str  # opportunistic, starttls, tls or off
    username: str | None
    password: str | None
    timeout: float
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    hostname: str = field(default_factory=socket.gethostname)


@dataclass(slots=True)
class _Conversation:
    """How far this attempt got, for whoever has to judge its failure."""

    stage: Stage = Stage.SESSION
    reused: bool = False


class SmtpTransport:
    """Sends by SMTP (RFC 5321)."""

    name = "smtp"

    def __init__(self, options: SmtpOptions) -> None:
        self._options = options
        self._idle: list[tuple[float, aiosmtplib.SMTP]] = []

    async def send(self, mail: Mail) -> Attempt:
        """Try once; a connection that turns out to be stale does not count as a try."""
        if not is_one_line(mail.to):
            return recipient_rejected("address with control characters")
        conversation = _Conversation()
        try:
            async with asyncio.timeout(self._options.timeout):
                attempt = await self._converse(mail, conversation)
                if attempt is None:
                    conversation = _Conversation()
                    attempt = await self._converse(mail, conversation, fresh=True)
        except TimeoutError:
            return smtp_lost(conversation.stage, f"no answer within {self._options.timeout:.0f} s")
        return attempt or smtp_lost(conversation.stage, "connection closed")

    async def _converse(self, mail: Mail, conversation: _Conversation, *, fresh: bool = False) -> Attempt | None:
        """Send over one connection; None where a kept one had been closed by the server before it was told anything."""
        try:
            async with self._connection(conversation, fresh=fresh) as smtp:
                return await _transfer(smtp, mail, self._options, conversation)
        except SMTPResponseException as error:
            if conversation.reused and error.code == 421 and conversation.stage is Stage.SENDER:
                return None
            return smtp_reply(conversation.stage, error.code)
        except (SMTPException, OSError, ssl.SSLError) as error:
            if conversation.reused and conversation.stage is Stage.SENDER:
                return None
            return smtp_lost(conversation.stage, _reason(error))

    @contextlib.asynccontextmanager
    async def _connection(self, conversation: _Conversation, *, fresh: bool) -> AsyncIterator[aiosmtplib.SMTP]:
        """Lend a connection; it is kept for the next mail only if nothing went wrong with it."""
        smtp = None if fresh else self._kept()
        conversation.reused = smtp is not None
        smtp = smtp or await self._connect()
        kept = False
        try:
            yield smtp
            kept = True
        finally:
            if kept and smtp.is_connected:
                self._idle.append((time.monotonic(), smtp))
            else:
                smtp.close()

    def _kept(self) -> aiosmtplib.SMTP | None:
        while self._idle:
            since, smtp = self._idle.pop()
            if smtp.is_connected and time.monotonic() - since < IDLE:
                return smtp
            smtp.close()
        return None

    async def _connect(self) -> aiosmtplib.SMTP:
        options = self._options
        smtp = aiosmtplib.SMTP(
            hostname=options.server.host,
            port=options.server.port,
            timeout=options.timeout,
            use_tls=options.security == "tls",
            start_tls={"off": False, "tls": False, "starttls": True}.get(options.security),
            username=options.username,
            password=options.password,
            tls_context=self._tls_context(),
            local_hostname=self._options.hostname,
        )
        try:
            await smtp.connect()
            await smtp._ehlo_or_helo_if_needed()  # noqa: SLF001  what the server can is asked for once, here
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _tls_context(self) -> ssl.SSLContext | None:
        options = self._options
        if options.security == "off":
            return None
        try:
            context = ssl.create_default_context(cafile=options.ca_file)
            if options.client_cert is not None:
                context.load_cert_chain(options.client_cert, options.client_key)
        except (OSError, ssl.SSLError) as error:
            raise TransportError(f"smtp_ca_file or smtp_client_cert can't be used: {error}") from error
        return context

    async def check(self) -> str:
        """Connect, negotiate TLS and log in."""
        try:
            async with asyncio.timeout(self._options.timeout):
                smtp = await self._connect()
                encrypted = smtp.get_transport_info("sslcontext") is not None
                await smtp.quit()
        except (TimeoutError, SMTPException, OSError) as error:
            raise TransportError(f"{self._options.server}: {_reason(error)}") from error
        return f"{self._options.server}: connected, {'TLS' if encrypted else 'no TLS'}"

    async def aclose(self) -> None:
        """Say goodbye on every connection that is open."""
        while self._idle:
            _, smtp = self._idle.pop()
            with contextlib.suppress(SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await smtp.quit()
            smtp.close()


async def _transfer(smtp: aiosmtplib.SMTP, mail: Mail, options: SmtpOptions, conversation: _Conversation) -> Attempt:
    """Say MAIL, RCPT and DATA (RFC 5321 section 3.3)."""
    international = not (mail.to.isascii() and mail.sender.address.isascii())
    if international and not smtp.supports_extension("smtputf8"):
        return recipient_rejected("smtp SMTPUTF8 is not offered, which this address needs")
    sender, recipient = f"FROM:<{mail.sender.address}>".encode(), f"TO:<{mail.to}>".encode()
    steps = (
        (Stage.SENDER, (b"MAIL", sender, b"SMTPUTF8") if international else (b"MAIL", sender), 250),
        (Stage.RECIPIENT, (b"RCPT", recipient), 250),
        (Stage.DATA, (b"DATA",), 354),
    )
    for stage, words, expected in steps:
        conversation.stage = stage
        reply = await smtp.execute_command(*words)
        if reply.code == 421:
            raise SMTPResponseException(reply.code, "closing")
        if reply.code != expected and not (expected == 250 and 250 <= reply.code < 300):
            await smtp.execute_command(b"RSET")
            return smtp_reply(stage, reply.code)
    conversation.stage = Stage.CONTENT
    code = await _send_content(smtp, mail.to_bytes())
    if not 200 <= code < 300:
        return smtp_reply(Stage.CONTENT, code)
    return delivered(f"smtp {options.server} {code}")


async def _send_content(smtp: aiosmtplib.SMTP, message: bytes) -> int:
    """Write the message and its end in one go: a second small write would wait for a delayed acknowledgement."""
    protocol = smtp.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("connection lost")
    protocol.write(_LEADING_DOT.sub(b"..", message) + b".\r\n")
    reply = await protocol.read_response()
    return reply.code


def _reason(error: BaseException) -> str:
    """Say what broke, without what the server said: it may repeat addresses."""
    if isinstance(error, SMTPResponseException):
        return f"{type(error).__name__} {error.code}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(error).__name__

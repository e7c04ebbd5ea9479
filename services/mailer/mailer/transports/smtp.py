"""SMTP with connections that are kept: opened by aiosmtplib, used many times, given up when they idle."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import aiosmtplib

from mailer.errors import TransportError
from mailer.mails import Mail
from mailer.transports.smtp_replies import judge_loss, judge_reply
from mailer.transports.smtp_session import LostError, Offers, RefusedError, SilentError, SmtpSession, WithheldError
from mailer.transports.tls import describe_tls
from mailer.verdicts import SMTPUTF8_MISSING, WITHHELD, Fault, Kind, Stage, Verdict

IDLE = 30.0  # seconds after which an unused connection is closed
SILENCE = 3  # a connection that was used before may keep silent for this part of an attempt, then it counts as gone
CHECK_BOUND = 10.0

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


class _OpeningError(Exception):
    """No usable connection; carries the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class SmtpTransport:
    """Sends mail through one server, on as many connections as mails are under way."""

    def __init__(self, options: SmtpOptions, *, name: str = "smtp") -> None:
        self.name = name
        self._options = options
        self._tls = None if options.security == "off" else _tls_context(options)
        self._idle: list[tuple[SmtpSession, asyncio.TimerHandle]] = []
        self._own_name = ""

    async def send(self, mail: Mail, *, bound: float) -> Verdict:
        """Try once, within `bound` seconds; a connection that had gone stale is replaced within that."""
        stage = [Stage.CONNECT]
        try:
            async with asyncio.timeout(bound):
                return await self._send(mail, await mail.to_signed_bytes(), stage, silence=bound / SILENCE)
        except TimeoutError:
            return judge_loss(stage[0], "timed out")
        except _OpeningError as error:
            return error.verdict

    async def _send(self, mail: Mail, content: bytes, stage: list[Stage], *, silence: float) -> Verdict:
        while True:
            async with self._session() as session:
                if mail.needs_smtputf8 and not session.offers.smtputf8:
                    return SMTPUTF8_MISSING
                if session.offers.size and len(content) > session.offers.size:
                    return Verdict(Kind.GIVE_UP, Fault.MAIL, f"size over {session.offers.size}")
                try:
                    reply = await session.transact(
                        mail.sender.address, mail.to.address, content, utf8=mail.needs_smtputf8,
                        silence=silence if session.used else None, still_wanted=mail.still_wanted,
                    )  # fmt: skip
                except WithheldError:
                    return WITHHELD
                except RefusedError as error:
                    verdict = judge_reply(error.stage, error.reply.code, error.reply.text)
                    stale = error.reply.code == 421 and error.stage is not Stage.CONTENT
                except SilentError:
                    session.abort()
                    self._forget_idle()  # whatever swallowed this one has swallowed them, too
                    verdict, stale = judge_loss(session.stage, "no answer"), True
                except LostError:
                    verdict = judge_loss(session.stage, "connection lost")
                    stale = session.stage is not Stage.CONTENT
                else:
                    return judge_reply(Stage.CONTENT, reply.code, reply.text)
                finally:
                    stage[0] = session.stage
                if not (stale and session.used > 1):
                    return verdict
                stage[0] = Stage.CONNECT  # the server had dropped the connection: again, on another one

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[SmtpSession]:
        """Lend an idle connection, else a new one; it is kept unless something ended it half-way."""
        session = self._take_idle() or await self._open()
        try:
            yield session
        except BaseException:
            session.abort()
            raise
        if session.is_open:
            timer = asyncio.get_running_loop().call_later(IDLE, self._drop, session)
            self._idle.append((session, timer))
        else:
            session.abort()

    def _take_idle(self) -> SmtpSession | None:
        while self._idle:
            session, timer = self._idle.pop()
            timer.cancel()
            if session.is_open:
                return session
            session.abort()
        return None

    def _forget_idle(self) -> None:
        while (session := self._take_idle()) is not None:
            session.abort()

    def _drop(self, session: SmtpSession) -> None:
        self._idle = [(other, timer) for other, timer in self._idle if other is not session]
        session.quit()

    async def _open(self) -> SmtpSession:
        smtp = aiosmtplib.SMTP(
            hostname=self._options.host,
            port=self._options.port,
            username=self._options.username,
            password=self._options.password,
            local_hostname=await self._name_of_this_machine(),
            use_tls=self._options.security == "tls",
            start_tls={"starttls": True, "opportunistic": None}.get(self._options.security, False),
            tls_context=self._tls,
            timeout=None,  # the whole attempt has one
        )
        try:
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await _greet(smtp)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            smtp.close()
            raise _OpeningError(_judge_opening(error)) from error
        except BaseException:
            smtp.close()
            raise
        transport = smtp.transport
        if transport is None:
            raise _OpeningError(judge_loss(Stage.CONNECT, "connection lost"))
        return SmtpSession(
            cast(asyncio.Transport, transport),  # uvloop's are none by inheritance
            Offers(
                pipelining=smtp.supports_extension("pipelining"),
                smtputf8=smtp.supports_extension("smtputf8"),
                eightbit=smtp.supports_extension("8bitmime"),
                size=_size(smtp.esmtp_extensions.get("size")),
            ),
        )

    async def _name_of_this_machine(self) -> str:
        """What EHLO says; asked of the resolver once, in a thread, since that may take its time."""
        if not self._own_name:
            name = await asyncio.to_thread(socket.getfqdn)
            self._own_name = name if re.fullmatch(r"[A-Za-z0-9.-]{1,255}", name) else "localhost"
        return self._own_name

    async def check(self) -> str:
        """Connect, with TLS and AUTH as configured, and ask for a sign of life.

        Raises:
            TransportError: that failed, and why.
        """
        try:
            async with asyncio.timeout(CHECK_BOUND):
                session = await self._open()
                reply = await session.noop()
        except TimeoutError:
            raise TransportError(f"{self.name}: no answer within {CHECK_BOUND:.0f} s") from None
        except _OpeningError as error:
            raise TransportError(f"{self.name}: {error.verdict.reason}: {error.__cause__}") from error
        except LostError as error:
            raise TransportError(f"{self.name}: {error}") from error
        if reply.code != 250:
            session.abort()
            raise TransportError(f"{self.name}: it answers NOOP with {reply.code}")
        tls = session.tls()
        session.quit()
        facts = [
            f"{self._options.host}:{self._options.port}",
            describe_tls(tls) if tls is not None else "no TLS",
            *(["user and password accepted"] if self._options.username else []),
            f"offers {session.offers}",
        ]
        return ", ".join(facts)

    async def aclose(self) -> None:
        """Say goodbye on all idle connections."""
        while (session := self._take_idle()) is not None:
            session.quit()


def _size(text: str | None) -> int | None:
    """The bound of SIZE (RFC 1870), 0 where there is none or it can't be read, None where SIZE is not offered."""
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    """Say EHLO, and HELO to a server that is too old for it (RFC 5321 section 3.2)."""
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not smtp.is_connected:
            raise
        await smtp.helo()


# At what stage aiosmtplib failed, by the exception it tells that with; the first that fits counts.
_OPENING_STAGES: tuple[tuple[type[aiosmtplib.SMTPResponseException], Stage], ...] = (
    (aiosmtplib.SMTPAuthenticationError, Stage.AUTH),
    (aiosmtplib.SMTPHeloError, Stage.EHLO),
    (aiosmtplib.SMTPConnectResponseError, Stage.CONNECT),
    (aiosmtplib.SMTPResponseException, Stage.TLS),
)


def _judge_opening(error: Exception) -> Verdict:
    """Say what it means that no connection could be opened; it is never the recipient's fault."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        stage = next(stage for kind, stage in _OPENING_STAGES if isinstance(error, kind))
        malformed = error.code < 0
        return judge_loss(Stage.CONNECT, "malformed") if malformed else judge_reply(stage, error.code, error.message)
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return judge_loss(Stage.TLS, f"certificate refused: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return judge_loss(Stage.TLS, f"failed: {cause.reason}")
    if isinstance(cause, OSError) and cause.strerror:
        return judge_loss(Stage.CONNECT, f"failed: {cause.strerror}")
    if type(error) is aiosmtplib.SMTPException:  # its own findings: STARTTLS or AUTH wanted and not offered
        return judge_loss(Stage.TLS, _finding(error.message))
    return judge_loss(Stage.CONNECT, type(error).__name__)


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

"""SMTP: mails go over connections that are kept, and a mail that meets a dead one goes over another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from mailer.errors import REFUSED_PAUSE, TransportError
from mailer.mails import Mail
from mailer.silence import Silence, end_in
from mailer.transports.smtp_opening import OpeningError, SmtpOpener, SmtpOptions
from mailer.transports.smtp_pool import OPENING, SmtpPool
from mailer.transports.smtp_replies import judge_loss, judge_reply
from mailer.transports.smtp_session import LostError, RefusedError, SilentError, SmtpSession, WithheldError
from mailer.transports.tls import describe_tls
from mailer.verdicts import SMTPUTF8_MISSING, WITHHELD, Fault, Kind, Stage, Verdict

DOUBT, LONGEST_DOUBT = 0.5, 1.5  # part, and seconds, of the silence after which a connection used before counts as gone


class SmtpTransport:
    """Sends mail through one server, on as many connections as mails are under way."""

    def __init__(self, options: SmtpOptions, *, name: str = "smtp") -> None:
        self.name = name
        self._options = options
        self._opener = SmtpOpener(options)
        self._pool = SmtpPool(self._opener.open)

    async def send(
        self, mail: Mail, *, bound: float, silence: float | None = None, reply: float | None = None
    ) -> Verdict:
        """Try once; a connection that had gone stale is replaced within that."""
        stage = [Stage.CONNECT]
        quiet = None
        try:
            async with asyncio.timeout(bound) as whole:

                def may_go() -> bool:
                    if reply is not None:
                        end_in(whole, reply)
                    return mail.still_wanted()

                content = await mail.to_signed_bytes()
                async with Silence(silence or bound) as quiet:
                    return await self._send(replace(mail, still_wanted=may_go), content, stage, quiet)
        except TimeoutError:
            verdict = judge_loss(stage[0], "timed out")
            if stage[0] is Stage.CONNECT and quiet is not None and quiet.too_long:
                verdict = replace(verdict, for_all=True)
                self._pool.give_up(OpeningError(verdict), silence=silence or bound)
            return verdict
        except OpeningError as error:
            return error.verdict

    async def _send(self, mail: Mail, content: bytes, stage: list[Stage], silence: Silence) -> Verdict:
        doubt = min(DOUBT * (silence.seconds or 0), LONGEST_DOUBT)
        while True:
            async with self._session(silence) as session:
                if mail.needs_smtputf8 and not session.offers.smtputf8:
                    return SMTPUTF8_MISSING
                if session.offers.size and len(content) > session.offers.size:
                    return Verdict(Kind.GIVE_UP, Fault.MAIL, f"size over {session.offers.size}")
                try:
                    reply = await session.transact(
                        mail.sender.address, mail.to.address, content, utf8=mail.needs_smtputf8, silence=silence,
                        doubt=doubt if session.used else None, still_wanted=mail.still_wanted,
                    )  # fmt: skip
                except WithheldError:
                    return WITHHELD
                except RefusedError as error:
                    verdict = judge_reply(error.stage, error.reply.code, error.reply.text)
                    stale = error.reply.code == 421 and error.stage is not Stage.CONTENT
                except SilentError:
                    session.abort()
                    self._pool.forget_idle()  # whatever swallowed this one has swallowed them, too
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
    async def _session(self, silence: Silence) -> AsyncIterator[SmtpSession]:
        """Lend a connection; it is kept unless something ended it half-way."""
        session = await self._pool.take(silence)
        try:
            yield session
        except BaseException:
            session.abort()
            raise
        self._pool.keep(session)

    async def check(self) -> str:
        """Connect, with TLS and AUTH as configured, and ask for a sign of life; the connection is kept for a mail.

        Raises:
            TransportError: that failed, and why.
        """
        try:
            async with asyncio.timeout(OPENING):
                session = await self._opener.open(lambda: None)
                reply = await session.noop()
        except TimeoutError:
            raise TransportError(f"{self.name}: no answer within {OPENING:.0f} s") from None
        except OpeningError as error:
            pause = REFUSED_PAUSE if error.verdict.reason.startswith(f"{Stage.AUTH} 5") else 0.0
            raise TransportError(f"{self.name}: {error.verdict.reason}: {error.__cause__}", pause=pause) from error
        except LostError as error:
            raise TransportError(f"{self.name}: {error}") from error
        if reply.code != 250:
            session.abort()
            raise TransportError(f"{self.name}: it answers NOOP with {reply.code}")
        tls = session.tls()
        facts = [
            f"{self._options.host}:{self._options.port}",
            describe_tls(tls) if tls is not None else "no TLS",
            *(["user and password accepted"] if self._options.username else []),
            f"offers {session.offers}",
        ]
        self._pool.keep(session)
        return ", ".join(facts)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

"""SMTP connections that wait for mails, and mails that wait for connections.

A connection that takes long to open is not thrown away when the mail that wanted it goes another way: it is opened all
the same, and the next mail has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mailer.silence import Silence
from mailer.transports.smtp_opening import OpeningError
from mailer.transports.smtp_replies import judge_loss
from mailer.transports.smtp_session import SmtpSession
from mailer.verdicts import Stage

IDLE = 30.0  # seconds after which an unused connection is closed
OPENING = 45.0  # seconds that opening one may take, whoever still waits for it: some servers greet after 30
SPARE = 5  # connections that may go on opening with no mail waiting for them

Open = Callable[[Callable[[], None]], Awaitable[SmtpSession]]

log = structlog.stdlib.get_logger()


class SmtpPool:
    """Lends connections to one mail at a time."""

    def __init__(self, open_one: Open) -> None:
        self._open = open_one
        self._idle: list[tuple[SmtpSession, asyncio.TimerHandle]] = []
        self._openings: dict[asyncio.Task[None], None] = {}  # in the order in which they were begun
        self._waiting: dict[asyncio.Future[SmtpSession], Silence] = {}

    async def take(self, silence: Silence) -> SmtpSession:
        """Take the connection that was used last, else whichever is there first: a new one, or one given back.

        Raises:
            OpeningError: a new one could not be opened.
        """
        session = self._take_idle()
        if session is not None:
            return session
        opening = asyncio.create_task(self._open_one())
        self._openings[opening] = None
        opening.add_done_callback(self._openings.pop)
        wanted: asyncio.Future[SmtpSession] = asyncio.get_running_loop().create_future()
        self._waiting[wanted] = silence
        try:
            return await wanted
        except asyncio.CancelledError:
            if _has_result(wanted):
                self.keep(wanted.result())
            raise
        finally:
            del self._waiting[wanted]
            if not _has_result(wanted) and len(self._openings) - len(self._waiting) > SPARE:
                opening.cancel()

    async def _open_one(self) -> None:
        try:
            async with asyncio.timeout(OPENING):
                session = await self._open(self._heard)
        except TimeoutError:
            self._tell(OpeningError(judge_loss(Stage.CONNECT, "timed out")))
        except Exception as error:  # noqa: BLE001 - whoever waits has to know
            self._tell(error)
        else:
            if session.is_open:
                self._hand_over(session)
            else:
                session.abort()
                self._tell(OpeningError(judge_loss(Stage.CONNECT, "connection lost")))

    def _heard(self) -> None:
        for silence in self._waiting.values():
            silence.heard()

    def _tell(self, error: Exception) -> None:
        wanted = self._next_waiting()
        if wanted is not None:
            wanted.set_exception(error)
        elif not isinstance(error, OpeningError):
            log.error("smtp_opening_failed_unexpectedly", exc_info=error)

    def give_up(self, error: OpeningError, *, silence: float) -> None:
        """The server was silent for that many seconds: let all go who would not wait longer."""
        for wanted, waiting in self._waiting.items():
            if not wanted.done() and waiting.seconds is not None and waiting.seconds <= silence:
                wanted.set_exception(error)

    def _next_waiting(self) -> asyncio.Future[SmtpSession] | None:
        return next((wanted for wanted in self._waiting if not wanted.done()), None)

    def keep(self, session: SmtpSession) -> None:
        """Take a connection back, if it is fit for another mail: for whoever waits, else for a while."""
        if not session.is_open:
            session.abort()
        elif session.is_worn:
            session.quit()
        else:
            self._hand_over(session)

    def _hand_over(self, session: SmtpSession) -> None:
        wanted = self._next_waiting()
        if wanted is not None:
            wanted.set_result(session)
        else:
            timer = asyncio.get_running_loop().call_later(IDLE, self._drop, session)
            self._idle.append((session, timer))

    def _take_idle(self) -> SmtpSession | None:
        while self._idle:
            session, timer = self._idle.pop()
            timer.cancel()
            if session.is_open:
                return session
            session.abort()
        return None

    def _drop(self, session: SmtpSession) -> None:
        self._idle = [(other, timer) for other, timer in self._idle if other is not session]
        session.quit()

    def forget_idle(self) -> None:
        """Give up all that wait for mails, without a word."""
        while (session := self._take_idle()) is not None:
            session.abort()

    async def aclose(self) -> None:
        """Say goodbye on all that wait for mails, and open no more."""
        for opening in (openings := [*self._openings]):
            opening.cancel()
        await asyncio.gather(*openings, return_exceptions=True)
        while (session := self._take_idle()) is not None:
            session.quit()


def _has_result(future: asyncio.Future[SmtpSession]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None

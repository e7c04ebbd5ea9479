"""One transport with what bounds it: so many mails at a time, so many a second, and a circuit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from mailer.circuit import Circuit, State
from mailer.mails import Mail
from mailer.metrics import Metrics
from mailer.verdicts import Fault, Kind, Verdict

# Seconds that an answer may take once a transport has the mail: a server that scans what it gets needs some, and who
# gives up on it and sends again makes duplicates (RFC 5321 section 4.5.3.2.6 allows it minutes).
REPLY = 35.0
BUSY = Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, "busy")


class Transport(Protocol):
    """A way to send mail. `send` raises nothing that is to be expected: it judges it."""

    @property
    def name(self) -> str:
        """Its name in settings, logs and metrics."""

    async def send(
        self, mail: Mail, *, bound: float, silence: float | None = None, reply: float | None = None
    ) -> Verdict:
        """Try once, within `bound` seconds.

        Before the other side could have the mail, `silence` seconds without a sign of life end that, too. Once it
        could, its answer may take `reply` seconds instead.
        """

    async def check(self) -> str:
        """Connect and authenticate without sending; tell what was found.

        Raises:
            TransportError: it doesn't work, and what to do.
        """

    async def aclose(self) -> None:
        """Close what is open."""


class Pace:
    """Turns at an even interval, so that no second ever has more of them than the rate allows."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def turn(self, *, patience: float) -> bool:
        """Wait for a turn; False, at once, where that would take longer than `patience` seconds."""
        if not self._interval:
            return True
        now = time.monotonic()
        due = max(now, self._next)
        if due - now > patience:
            return False
        self._next = due + self._interval
        await asyncio.sleep(due - now)
        return True


class Route:
    """Sends through a transport while its circuit lets mails through, never more than it is allowed."""

    def __init__(
        self, transport: Transport, *, concurrency: int, metrics: Metrics, per_second: float = 0.0,
        changed: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.transport = transport
        self._slots = asyncio.Semaphore(concurrency)
        self._stuck = False  # a mail waited in vain since the last one was done: the next needn't
        self._pace = Pace(per_second)
        self._metrics = metrics
        self.changed = changed
        self.circuit = Circuit(transport.name, self._tell)
        self._metrics.circuit(transport.name, self.circuit.state)

    def _tell(self, state: State) -> None:
        self._metrics.circuit(self.transport.name, state)
        self.changed()

    async def send(self, mail: Mail, *, bound: float, patience: float | None = None) -> Verdict | None:
        """Try once within `bound` seconds; None where the circuit is open.

        `patience` are the seconds that a mail waits for its turn, and then for a sign of life, if less than `bound`.
        """
        if patience is not None and self._stuck and self._slots.locked():
            return replace(BUSY, transport=self.transport.name)
        try:
            async with asyncio.timeout(patience or bound):
                await self._slots.acquire()
        except TimeoutError:
            self._stuck = True
            return replace(BUSY, transport=self.transport.name)
        try:
            if not await self._pace.turn(patience=patience or bound):
                return replace(BUSY, transport=self.transport.name)
            return await self._try(mail, bound, patience) if self.circuit.lets_through else None
        finally:
            self._slots.release()
            self._stuck = False

    async def _try(self, mail: Mail, bound: float, patience: float | None) -> Verdict:
        started = time.monotonic()
        verdict = None
        begun = self.circuit.begin()
        try:
            verdict = await self.transport.send(mail, bound=bound, silence=patience, reply=max(bound, REPLY))
            verdict = replace(verdict, transport=self.transport.name)
        finally:
            self.circuit.end(verdict, begun)
        self._metrics.tried(verdict, took=time.monotonic() - started)
        return verdict

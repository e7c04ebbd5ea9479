"""The way of a mail through the transports: by the next one while the one before it can't, and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from mailer.circuit import State
from mailer.errors import TransportError
from mailer.mails import Mail
from mailer.routes import Route
from mailer.verdicts import Fault, Kind, Verdict

# Seconds that a mail waits for its turn, and then for a sign of life, while there is another transport to go by.
PATIENCE = 1.0
LOOK_EVERY = 0.1  # seconds between looks at the circuits

log = structlog.stdlib.get_logger()


class Delivery:
    """Sends through the first transport that can. Routes come in order of preference and are at least one.

    While it sends, `run` must run: it lets mails back to a transport that works again.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = tuple(routes)
        self._changed = asyncio.Event()
        for route in self._routes:
            route.changed = self._changed.set

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one transport."""
        return len(self._routes) > 1

    async def attempt(self, mail: Mail, *, bound: float, within: float) -> Verdict:
        """Try once, `bound` seconds a transport and `within` seconds in all; the verdict that counts.

        While no transport may be used, wait for one, for `bound` seconds at most: the mail then goes at once.
        """
        ends = time.monotonic() + within
        patient_until = min(ends, time.monotonic() + bound)
        while True:
            self._changed.clear()
            verdict = await self._round(mail, bound, ends)
            left = patient_until - time.monotonic()
            if verdict is not None:
                return verdict
            pause = min(route.circuit.pause_left for route in self._routes)
            if pause > left or not await self._change(left):
                return self._none_to_use(pause)

    async def _round(self, mail: Mail, bound: float, ends: float) -> Verdict | None:
        """One try at each transport until it is clear what becomes of the mail; None where none may be used."""
        counts = None
        for number, route in enumerate(self._routes, 1):
            if not route.circuit.lets_through:
                continue
            # What is left until the deadline is shared out, so that a transport that hangs leaves the next its part.
            share = min(bound, (ends - time.monotonic()) / (len(self._routes) - number + 1))
            if share <= 0:
                return counts or Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, "no time left")
            another = any(later.circuit.lets_through for later in self._routes[number:])
            verdict = await route.send(mail, bound=share, patience=min(share, PATIENCE) if another else None)
            if verdict is None:
                continue
            if verdict.fault not in (Fault.TRANSPORT, Fault.MAIL):
                return verdict
            if number < len(self._routes):
                log.info("mail_goes_on", job=mail.id, transport=verdict.transport, reason=verdict.reason)
            counts = verdict if counts is None else _weightier(counts, verdict)
        return counts

    async def _change(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _none_to_use(self, pause: float) -> Verdict:
        first = self._routes[0]
        reason = f"resting after {first.circuit.reason}"
        return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, reason, first.transport.name, pause)

    async def run(self) -> None:
        """Bring transports back that were given a rest, until cancelled; no mail is spent on finding out."""
        async with asyncio.TaskGroup() as group:
            for route in self._routes:
                group.create_task(_bring_back(route))


async def _bring_back(route: Route) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY)
        if route.circuit.state is State.OPEN and not route.circuit.pause_left:
            await _check(route)


async def _check(route: Route) -> None:
    try:
        await route.transport.check()
    except TransportError as error:
        log.debug("transport_still_away", transport=route.transport.name, error=str(error))
        route.circuit.stay_open(error.pause)
    except Exception:
        log.exception("transport_check_failed_unexpectedly", transport=route.transport.name)
        route.circuit.try_again()  # the mails will tell
    else:
        route.circuit.try_again()


def _weightier(one: Verdict, other: Verdict) -> Verdict:
    """Of two transports' verdicts the one that counts: trying again outweighs giving up, and soon outweighs late."""
    if one.kind is not other.kind:
        return one if one.kind is Kind.TRY_AGAIN else other
    return other if other.retry_after < one.retry_after else one

"""A circuit breaker: keeps mails from a transport that fails, and lets them back once it works again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from mailer.verdicts import Fault, Kind, Verdict

FAILURES = 5  # in a row open the circuit
# Seconds it stays open, doubling from one failed trial to the next. What ends it is a check that costs no mail, so that
# traffic can return within seconds.
PAUSE, LONGEST_PAUSE = 1.0, 4.0
LONGEST_ASKED = 3600.0  # of what a Retry-After may ask for
TELL_EVERY = 60.0  # seconds after which the log says again that a transport is still at rest

log = structlog.stdlib.get_logger()


class State(StrEnum):
    """Closed: all mails pass. Open: none does. Half-open: one at a time, to try."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Circuit:
    """One transport's circuit; `changed` is called after each change of its state."""

    def __init__(self, name: str, changed: Callable[[State], None]) -> None:
        self._name = name
        self._changed = changed
        self._failures = 0
        self._pause = PAUSE
        self._open_until = self._opened = self._told = 0.0
        self._trying = False
        self._times_opened = 0
        self.state = State.CLOSED
        self.reason = ""

    @property
    def lets_through(self) -> bool:
        """Whether a mail may pass now."""
        return self.state is State.CLOSED or (self.state is State.HALF_OPEN and not self._trying)

    @property
    def pause_left(self) -> float:
        """Seconds until a trial; 0 where that is due, or under way."""
        return max(0.0, self._open_until - time.monotonic()) if self.state is State.OPEN else 0.0

    def begin(self) -> int:
        """A mail passes; gives what `end`, which follows, has to be given."""
        self._trying = self.state is State.HALF_OPEN
        return self._times_opened

    def end(self, verdict: Verdict | None, begun: int) -> None:
        """What became of that mail; None, or no fault of the transport or the recipient, tells nothing of it.

        Nor does a failure of what was begun before the circuit was opened last: it belongs to those that opened it.
        """
        is_news = begun == self._times_opened
        self._trying = self._trying and not is_news
        if verdict is not None and verdict.fault in (Fault.TRANSPORT, Fault.UNKNOWN):
            if is_news:
                self._failed(verdict)
        elif verdict is not None and (verdict.kind is Kind.DELIVERED or verdict.fault is Fault.RECIPIENT):
            self._worked()
        elif self.state is State.HALF_OPEN:
            self._changed(self.state)  # the next may try

    def try_again(self) -> None:
        """The transport could be reached: let one mail at a time through."""
        if self.state is State.OPEN:
            self._set(State.HALF_OPEN)

    def stay_open(self, asked: float = 0.0) -> None:
        """The transport could not be used yet: wait longer before the next trial, `asked` seconds at least."""
        if self.state is State.OPEN:
            self._open(self.reason, asked)
            now = time.monotonic()
            if now - self._told >= TELL_EVERY:
                self._told = now
                seconds = round(now - self._opened)
                log.warning("transport_still_at_rest", transport=self._name, reason=self.reason, seconds=seconds)

    def _worked(self) -> None:
        self._failures = 0
        if self.state is not State.CLOSED:
            self._pause = PAUSE
            log.info("transport_back", transport=self._name)
            self._set(State.CLOSED)

    def _failed(self, verdict: Verdict) -> None:
        self._failures += 1
        enough = self._failures >= FAILURES or verdict.retry_after > 0 or verdict.for_all
        if self.state is State.HALF_OPEN or (self.state is State.CLOSED and enough):
            self._open(verdict.reason, verdict.retry_after)

    def _open(self, reason: str, asked: float) -> None:
        """Open for a pause, or as long as we were asked to stay away; jitter keeps mailers from coming together."""
        pause = max(self._pause * random.uniform(0.75, 1), min(asked, LONGEST_ASKED))  # noqa: S311 - no secret
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._open_until = time.monotonic() + pause
        self.reason = reason
        if self.state is not State.OPEN:
            self._times_opened += 1
            self._opened = self._told = time.monotonic()
            log.warning("transport_given_a_rest", transport=self._name, reason=reason, seconds=round(pause, 1))
        self._set(State.OPEN)

    def _set(self, state: State) -> None:
        self.state = state
        self._changed(state)

"""What does not pass by itself: refusals and junk. Logged when it is new, and refusals are told at readiness."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from shared_store.commands import Command
from shared_store.errors import CorruptRecord, StoreError, StoreRefused

SAY_AGAIN = 60.0  # seconds after which the same is logged again, however often it happens meanwhile
REFUSED_FOR = 15.0  # seconds for which a refusal keeps a service from being ready, where nothing tries it again
MOST_TOLD = 5  # refusals at readiness
MOST = 200  # different ones that are remembered

log = logging.getLogger(__name__)


class Troubles:
    """Learns of every failure and of every success of a store's calls; `sent` is the command that failed, if one did.

    A refused command keeps the service from being ready until it, or what is sent like it, goes well.
    """

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._refused: dict[str, tuple[float, StoreRefused]] = {}

    def note(self, error: StoreError, sent: str = "") -> None:
        """Learn of a failure."""
        if isinstance(error, StoreRefused):
            self._refused.pop(sent, None)
            self._refused[sent] = (time.monotonic(), error)
            self._say("store_refused", error)
        elif isinstance(error, CorruptRecord):
            self._say("record_unreadable", error)

    def solved(self, commands: Sequence[Command]) -> None:
        """Learn that commands were carried out: whoever sent them is let in, and may send them."""
        if self._refused:
            for sent in ("", *map(str, commands)):
                self._refused.pop(sent, None)

    def check(self) -> None:
        """Make sure that nothing was refused lately that has not gone well since.

        Raises:
            StoreRefused: the last few of the refusals.
        """
        since = time.monotonic() - REFUSED_FOR
        self._refused = {sent: entry for sent, entry in self._refused.items() if entry[0] > since}
        if self._refused:
            raise StoreRefused("; ".join(str(error) for _, error in list(self._refused.values())[-MOST_TOLD:]))

    def _say(self, event: str, error: StoreError) -> None:
        text, now = str(error), time.monotonic()
        if now - self._said.get(text, -SAY_AGAIN) < SAY_AGAIN:
            return
        if len(self._said) >= MOST:
            self._said.clear()
        self._said[text] = now
        log.error("%s: %s", event, text)

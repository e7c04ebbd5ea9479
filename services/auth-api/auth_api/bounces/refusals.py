"""How often webhook calls that were no provider's came from one network: a bound on what checking them costs.

Calls that are a provider's do not count, however many come at once. It is counted in this process and not in Redis, so
that a flood of calls costs Redis nothing.
"""

import time
from collections import Counter
from collections.abc import Callable

from auth_api.errors import TooManyAttemptsError

MOST = 30  # refused calls from one network in a window; providers come again after an answer of 429
WINDOW = 60.0  # seconds
MOST_NETWORKS = 10_000  # counted one by one; any more are counted as one


class Refusals:
    """Counts them; `now` gives seconds that never go back."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends = 0.0
        self._counts: Counter[str] = Counter()

    def check(self, network: str) -> None:
        """Let a call be read or not.

        Raises:
            TooManyAttemptsError: too many calls of this network were refused; it may come again after the window.
        """
        now = self._now()
        if now >= self._ends:
            self._counts.clear()
            self._ends = now + WINDOW
        if self._counts[self._name(network)] >= MOST:
            raise TooManyAttemptsError("refused-webhooks:network", self._ends - now)

    def count(self, network: str) -> None:
        """Count a call that was refused."""
        self._counts[self._name(network)] += 1

    def _name(self, network: str) -> str:
        return network if network in self._counts or len(self._counts) < MOST_NETWORKS else ""

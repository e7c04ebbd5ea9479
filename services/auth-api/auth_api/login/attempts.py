"""How often somebody may try: the operator's limits at the start of a login, and bounds on wrong guesses across logins.

The operator's limits count every attempt. Wrong guesses are bounded by refusing to begin new logins: one login allows
a handful of guesses, so who can't begin another can't guess on, whatever network they come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from auth_api.addresses import EmailAddress
from auth_api.client_address import ClientAddress
from auth_api.errors import TooManyAttemptsError
from auth_api.limits import Limit, limit_key_values
from auth_api.oidc.origins import Origin
from shared_store.rate_limits import Count, Counter

HOUR = 3600.0
_ANY_NETWORK = Limit(keys=("ip",), count=1, window=1)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who tries what: the client's network address, the e-mail address, the relying party."""

    ip: ClientAddress
    address: EmailAddress
    origin: Origin


@dataclass(frozen=True, slots=True)
class Attempts:
    """Builds the counters of one attempt: the limits, and the wrong guesses allowed an hour."""

    limits: Sequence[Limit]
    wrong_codes_per_address: int
    wrong_codes_per_network: int

    def counters(self, subject: Subject) -> list[Counter]:
        """Give what an authorization request counts on."""
        return [
            Counter(
                limit=limit.id,
                values=_values(limit, subject),
                count=limit.count,
                window=limit.window,
                extend_window=limit.extend_window,
            )
            for limit in self.limits
        ]

    def refundable(self, counters: Sequence[Counter]) -> list[str]:
        """Name the counters that a completed login gives its attempt back to."""
        return [counter.key for limit, counter in zip(self.limits, counters, strict=True) if limit.decr_complete]

    def wrong_guesses(self, subject: Subject) -> list[Counter]:
        """Give what a wrong guess counts on."""
        network = _values(_ANY_NETWORK, subject)
        return [
            Counter("wrong-code:address", (str(subject.address),), self.wrong_codes_per_address, HOUR),
            Counter("wrong-code:network", network, self.wrong_codes_per_network, HOUR),
        ]


def refuse_if_exceeded(attempts: Sequence[Count], guesses: Sequence[Count]) -> None:
    """Let an attempt pass or not.

    Raises:
        TooManyAttemptsError: a limit is exceeded; the one that lasts longest is told.
    """
    over = [count for count in attempts if count.exceeded]
    over += [count for count in guesses if count.hits >= count.counter.count]
    if over:
        longest = max(over, key=lambda count: count.seconds_left)
        raise TooManyAttemptsError(longest.counter.limit, longest.seconds_left)


def _values(limit: Limit, subject: Subject) -> tuple[str, ...]:
    return limit_key_values(limit, ip=subject.ip, address=subject.address, origin=subject.origin)

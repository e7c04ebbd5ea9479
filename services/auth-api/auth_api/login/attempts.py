"""How often somebody may try: the operator's limits at the start of a login, and bounds across logins and networks.

The operator's limits count every attempt. Wrong guesses are bounded by refusing to begin new logins: one login allows
a handful of guesses, so who can't begin another can't guess on, whatever network they come from. Mails to one address
are bounded as well, so that nobody fills a mailbox from many networks. What is bounded for an address as a whole can be
used to keep its owner out; so no single network can make it full, and it never stops a login without a mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from auth_api.addresses import EmailAddress
from auth_api.client_address import ClientAddress
from auth_api.errors import TooManyAttemptsError
from auth_api.limits import Limit, limit_key_values, network_of
from auth_api.login.background import Background
from auth_api.oidc.origins import Origin
from shared_store import rate_limits
from shared_store.commands import Call
from shared_store.rate_limits import Count, Counter
from shared_store.store import Store
from shared_store.suppressions import Suppressions

T = TypeVar("T")

HOUR = 3600.0
FEWEST_NETWORKS = 5  # that it takes to stop the logins of an address by wrong codes


@dataclass(frozen=True, slots=True)
class Subject:
    """Who tries what: the client's network address, the e-mail address, the relying party."""

    ip: ClientAddress
    address: EmailAddress
    origin: Origin


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is too much: the operator's limits, and what one address and one network may cause in an hour."""

    limits: Sequence[Limit]
    mails_per_address: int
    wrong_codes_per_address: int
    wrong_codes_per_network: int


@dataclass(frozen=True, slots=True)
class Counted:
    """An attempt within the limits: the counters a completed login is refunded on, and the mails to its address.

    `wrong_codes` are those typed for the address from wherever. `came_back`: mail to it came back not long ago, so that
    none is to be sent.
    """

    refundable: list[str]
    mails: Count
    wrong_codes: Count | None
    came_back: bool


class Attempts:
    """Counts attempts, mails and wrong guesses."""

    def __init__(self, *, store: Store, background: Background, bounds: Bounds, suppressions: Suppressions) -> None:
        self._store = store
        self._background = background
        self._bounds = bounds
        self._suppressions = suppressions

    async def count(self, subject: Subject, *, reading: Call[T]) -> tuple[Counted, T]:
        """Count an authorization request on all limits, and as a mail to its address until it is known to be none.

        `reading` is read in the same round trip. Waits for Redis once.

        Raises:
            TooManyAttemptsError: a limit is exceeded; the one that lasts longest is told.
        """
        limits = self._bounds.limits
        counters = [_counter(limit, subject) for limit in limits]
        (*attempts, mails), guesses, read, came_back = await self._store.run_all(
            rate_limits.hit([*counters, self._mails(subject)]),
            rate_limits.look(self._wrong_guesses(subject)),
            reading,
            self._suppressions.look(str(subject.address)),
        )
        refundable = [counter.key for limit, counter in zip(limits, counters, strict=True) if limit.decr_complete]
        wrong_codes, *of_network = guesses
        counted = Counted(refundable, mails, wrong_codes, came_back)
        over = [count for count in attempts if count.exceeded]
        over += [count for count in of_network if count.hits >= count.counter.count]
        if over:
            self.take_mail_back(mails)  # else the refused attempts of one network would keep a person from their mail
            longest = max(over, key=lambda count: count.seconds_left)
            raise TooManyAttemptsError(longest.counter.limit, longest.seconds_left)
        return counted, read

    def take_mail_back(self, mails: Count) -> None:
        """Say, beside the answer, that what was counted as a mail is none."""
        self.take_back([mails.counter.key])

    def take_back(self, counters: Sequence[str]) -> None:
        """Say, beside the answer, that what was counted on these did not come about."""
        self._background.start("take_back", self._store.run(rate_limits.refund(counters)))

    def check_address(self, counted: Counted) -> None:
        """Let a mail that has been counted go out or not.

        Raises:
            TooManyAttemptsError: the address has been sent as many mails, or wrong codes for it, as there may be.
        """
        mails, wrong_codes = counted.mails, counted.wrong_codes
        if mails.exceeded:
            self.take_mail_back(mails)
            raise TooManyAttemptsError(mails.counter.limit, mails.seconds_left)
        if wrong_codes is not None and wrong_codes.hits >= wrong_codes.counter.count:
            self.take_mail_back(mails)
            raise TooManyAttemptsError(wrong_codes.counter.limit, wrong_codes.seconds_left)

    async def count_mail(self, subject: Subject) -> Counted:
        """Count another mail of a login. Waits for Redis once.

        Raises:
            TooManyAttemptsError: the address has been sent as many mails as it may.
        """
        [mails], came_back = await self._store.run_all(
            rate_limits.hit([self._mails(subject)]), self._suppressions.look(str(subject.address))
        )
        counted = Counted([], mails, None, came_back)
        if not came_back:
            self.check_address(counted)
        return counted

    def count_wrong_guess(self, subject: Subject) -> None:
        """Count a wrong guess, beside the answer."""
        self._background.start("count_wrong_guess", self._store.run(rate_limits.hit(self._wrong_guesses(subject))))

    def _mails(self, subject: Subject) -> Counter:
        return Counter("mails:address", (str(subject.address),), self._bounds.mails_per_address, HOUR)

    def _wrong_guesses(self, subject: Subject) -> list[Counter]:
        """Of the address from wherever, of the address from this network, of this network for whomever."""
        address, network = str(subject.address), network_of(subject.ip)
        most = self._bounds.wrong_codes_per_address
        return [
            Counter("wrong-code:address", (address,), most, HOUR),
            Counter("wrong-code:address:network", (address, network), ceil(most / FEWEST_NETWORKS), HOUR),
            Counter("wrong-code:network", (network,), self._bounds.wrong_codes_per_network, HOUR),
        ]


def _counter(limit: Limit, subject: Subject) -> Counter:
    return Counter(
        limit=limit.id,
        values=_values(limit, subject),
        count=limit.count,
        window=limit.window,
        extend_window=limit.extend_window,
    )


def _values(limit: Limit, subject: Subject) -> tuple[str, ...]:
    return limit_key_values(limit, ip=subject.ip, address=subject.address, origin=subject.origin)

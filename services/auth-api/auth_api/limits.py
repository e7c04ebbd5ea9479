"""Rate limits as operators write them (`flag:flag:COUNT/[N]UNIT`): what each one counts, and under which values.

Counting is the store's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Literal, get_args

from auth_api.addresses import EmailAddress
from auth_api.errors import InvalidLimitError
from auth_api.oidc.origins import Origin

LimitKey = Literal["ip", "email", "domain", "origin"]

# In the order in which their values make up a counter's name.
LIMIT_KEYS: tuple[LimitKey, ...] = get_args(LimitKey)
MAX_COUNT = 1_000_000_000
MAX_WINDOW_SECONDS = 366 * 86_400

_BEHAVIOURS = ("extend_window", "decr_complete")
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_NUMBER = re.compile(r"[0-9]{1,12}")
_WINDOW = re.compile(r"([0-9]{0,12})(.*)", re.DOTALL)
_IPV6_SITE_BITS = 64


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` attempts in `window` seconds for each combination of `keys`, which are in LIMIT_KEYS' order."""

    keys: tuple[LimitKey, ...]
    count: int
    window: int
    extend_window: bool = False
    decr_complete: bool = False

    @property
    def id(self) -> str:
        """The limit's own text in one spelling, so that a counter follows its content and not its position."""
        behaviours = [name for name in _BEHAVIOURS if getattr(self, name)]
        return ":".join((*self.keys, *behaviours, f"{self.count}/{self.window}s"))


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """Read a list of limits; one that stands there twice counts once.

    Raises:
        InvalidLimitError: one cannot be read.
    """
    return tuple(dict.fromkeys(parse_limit(text) for text in texts))


def parse_limit(text: str) -> Limit:
    """Read one limit.

    Raises:
        InvalidLimitError: it cannot be read, or would let nothing pass, or never end.
    """
    rest, slash, period = text.strip().rpartition("/")
    if not slash:
        raise _invalid(text, "there is no slash; write COUNT/[N]UNIT, as in 5/15m")
    *flags, count = rest.split(":")
    for flag in flags:
        if flag not in LIMIT_KEYS and flag not in _BEHAVIOURS:
            known = ", ".join((*LIMIT_KEYS, *_BEHAVIOURS))
            raise _invalid(text, f"the flag {flag[:40]!r} is unknown; there are {known}")
    return Limit(
        keys=tuple(key for key in LIMIT_KEYS if key in flags),
        count=_parse_count(text, count),
        window=_parse_window(text, period),
        extend_window="extend_window" in flags,
        decr_complete="decr_complete" in flags,
    )


def limit_key_values(
    limit: Limit, *, ip: IPv4Address | IPv6Address, address: EmailAddress, origin: Origin
) -> tuple[str, ...]:
    """The values that pick this attempt's counter, in LIMIT_KEYS' order; values may hold any character."""
    values: dict[LimitKey, str] = {
        "ip": network_of(ip),
        "email": str(address),
        "domain": address.domain,
        "origin": str(origin),
    }
    return tuple(values[key] for key in limit.keys)


def network_of(ip: IPv4Address | IPv6Address) -> str:
    """Give what a client counts as: an IPv6 client as its /64, since one customer has that many addresses."""
    return str(ip) if isinstance(ip, IPv4Address) else str(IPv6Network((int(ip), _IPV6_SITE_BITS), strict=False))


def _parse_count(text: str, count: str) -> int:
    if not _NUMBER.fullmatch(count):
        raise _invalid(text, f"the count {count[:40]!r} is no whole number")
    if int(count) == 0:
        raise _invalid(text, "a count of 0 lets nobody pass")
    if int(count) > MAX_COUNT:
        raise _invalid(text, f"the count is above {MAX_COUNT}")
    return int(count)


def _parse_window(text: str, period: str) -> int:
    parts = _WINDOW.fullmatch(period.strip())
    number, unit = (parts[1], parts[2].strip()) if parts else ("", period)
    if not unit:
        raise _invalid(text, "there is no unit after the slash; write s, m, h or d")
    if unit not in _SECONDS:
        raise _invalid(text, f"the unit {unit[:40]!r} is unknown; write s, m, h or d")
    window = int(number or "1") * _SECONDS[unit]
    if window == 0:
        raise _invalid(text, "a window of 0 counts nothing")
    if window > MAX_WINDOW_SECONDS:
        raise _invalid(text, "the window is longer than 366 days")
    return window


def _invalid(text: str, problem: str) -> InvalidLimitError:
    return InvalidLimitError(f"the limit {text[:100]!r} cannot be used: {problem}")

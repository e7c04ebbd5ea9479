"""What a mail provider's webhook tells, whoever the provider is: the addresses that must not be mailed again.

Only hard bounces and complaints count. A refusal of us (a block list, a policy) or of one mail (its size, a full
mailbox) says nothing about the address, even where the provider calls it permanent.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from auth_api.addresses import EmailAddress, parse_address
from auth_api.errors import InvalidAddressError, WebhookMalformedError, WebhookRefusedError
from shared_store.suppressions import Reason

OLDEST = 86_400  # seconds; providers repeat what they could not deliver for up to a day
AHEAD = 300  # seconds by which a provider's clock may be ahead of ours

# Enhanced status codes (RFC 3463) that are not about the address: mailbox full, mail too long, system, network,
# protocol, content, policy.
_NOT_THE_ADDRESS = re.compile(r"5\.(?:2\.[23]|4\.[235-7]|[3567]\.\d+)")

Event = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Posted:
    """One call of a webhook: its headers, its body, and what its URL ends in ('' where that is nothing)."""

    headers: Mapping[str, str]
    body: bytes
    secret: str = ""


@dataclass(frozen=True, slots=True)
class CameBack:
    """An address that must not be mailed again."""

    address: EmailAddress
    reason: Reason


@dataclass(frozen=True, slots=True)
class Report:
    """What a call reported. `name` is the call's own: the same again is a replay; '' where there is none."""

    came_back: tuple[CameBack, ...]
    others: int
    name: str = ""


class Provider(Protocol):
    """Reads the webhook calls of one provider; `most` is the size of a body, in octets, beyond which it has none."""

    name: str
    most: int

    def read(self, posted: Posted, *, now: float) -> Report:
        """Check and read a call; `now` is Unix time.

        Raises:
            WebhookRefusedError: it is not the provider's, or too old.
            WebhookMalformedError: it is not in the provider's form.
        """


def read_json(body: bytes) -> object:
    """Decode a body.

    Raises:
        WebhookMalformedError: it is no JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebhookMalformedError("the body is no JSON") from error


def mapping(value: object, what: str) -> Event:
    """Give a JSON object.

    Raises:
        WebhookMalformedError: `what` is none.
    """
    if not isinstance(value, dict):
        raise WebhookMalformedError(f"{what} is no object")
    return value


def check_time(timestamp: str, now: float) -> None:
    """Check a signed time, in Unix seconds.

    Raises:
        WebhookRefusedError: it is too old, ahead of us, or no time.
    """
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or not now - OLDEST <= int(timestamp) <= now + AHEAD:
        raise WebhookRefusedError("its signed time is not of the last day")


def report(events: Iterable[Event], judge: Callable[[Event], Reason | None], *, field: str, name: str = "") -> Report:
    """Put events together; `field` holds an event's address. An address that can't be read is one we never mailed."""
    found: dict[str, CameBack] = {}
    others = 0
    for event in events:
        reason, address = judge(event), _address(event.get(field))
        if reason is None or address is None:
            others += 1
        else:
            found[str(address)] = CameBack(address, reason)
    return Report(tuple(found.values()), others, name)


def is_about_the_address(status: object) -> bool:
    """Tell whether a permanent failure with this enhanced status code, if any, is the address's."""
    return not (isinstance(status, str) and _NOT_THE_ADDRESS.match(status))


def _address(value: object) -> EmailAddress | None:
    try:
        return parse_address(value) if isinstance(value, str) else None
    except InvalidAddressError:
        return None

"""Addresses that mail came back from, and those whose owners complained: nothing is mailed there for a while.

An address lies in Redis only as a digest under the operator's key: who has the data alone can't try addresses.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared_store.commands import Call, Reply, command, nothing
from shared_store.keyspace import SUPPRESSED, WEBHOOK_SEEN, digest
from shared_store.scanning import tags_of
from shared_store.store import Store

GONE = -2  # as PTTL tells it


class Reason(StrEnum):
    """Why nothing is mailed to an address."""

    HARD_BOUNCE = "hard_bounce"  # its server said that there is no such mailbox, or never will be
    COMPLAINT = "complaint"  # its owner called a mail of ours spam
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address, by its digest: why, who said so, since when (Unix seconds), for how many more seconds."""

    digest: str
    reason: str
    source: str
    since: float
    seconds_left: float


class Suppressions:
    """The set of addresses, under one `key`; each stays for `life` seconds. Without a key it is empty and stays so.

    Addresses are given normalised, as mail jobs carry them.
    """

    def __init__(self, key: str, *, life: int) -> None:
        self._key = key.encode()
        self._life = life

    def digest(self, address: str) -> str:
        """Give what an address lies under."""
        return hmac.digest(self._key, address.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]

    def add(self, entries: Iterable[tuple[str, Reason]], *, source: str, now: float) -> Call[None]:
        """Put addresses in, each for the whole life anew."""
        commands = (
            command(
                "SET",
                SUPPRESSED.key(digest=self.digest(address)),
                json.dumps({"reason": reason, "source": source, "since": int(now)}),
                "EX",
                self._life,
            )
            for address, reason in entries
        )
        return Call(tuple(commands), nothing)

    def look(self, address: str) -> Call[bool]:
        """Tell whether an address is in it."""
        if not self._key:
            return Call((), lambda _replies: False)
        key = SUPPRESSED.key(digest=self.digest(address))
        return Call((command("EXISTS", key),), lambda replies: bool(replies[0]))

    def lift(self, address: str) -> Call[bool]:
        """Take an address out; tells whether it was there."""
        key = SUPPRESSED.key(digest=self.digest(address))
        return Call((command("DEL", key),), lambda replies: bool(replies[0]))

    async def all(self, store: Store) -> list[Suppression]:
        """List all of them, newest first; slow on a busy server, for operators."""
        found = [await store.run(_entry(name)) async for name in tags_of(store, SUPPRESSED.key(digest="*"))]
        return sorted(filter(None, found), key=lambda entry: -entry.since)


def _entry(name: str) -> Call[Suppression | None]:
    def decode(replies: list[Reply]) -> Suppression | None:
        [text], milliseconds = replies
        if milliseconds == GONE:
            return None  # it ended just now
        try:
            values = json.loads(text)
            reason, source, since = str(values["reason"]), str(values["source"]), float(values["since"])
        except (ValueError, TypeError, KeyError, RecursionError):
            reason, source, since = "unreadable", "", 0.0
        return Suppression(name, reason, source, since, max(0, milliseconds) / 1000)

    key = SUPPRESSED.key(digest=name)
    return Call((command("MGET", key), command("PTTL", key)), decode)  # MGET passes over what is no string


def webhook_seen(name: str) -> Call[bool]:
    """Tell whether a signed webhook, by the `name` that is its own, has been taken before."""
    key = WEBHOOK_SEEN.key(digest=digest(name))
    return Call((command("EXISTS", key),), lambda replies: bool(replies[0]))


def remember_webhook(name: str, *, seconds: int) -> Call[None]:
    """Remember that a signed webhook has been taken."""
    return Call((command("SET", WEBHOOK_SEEN.key(digest=digest(name)), 1, "EX", seconds),), nothing)

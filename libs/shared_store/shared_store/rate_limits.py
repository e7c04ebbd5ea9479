"""Counters that end by themselves. What is counted, and how much is too much, is the caller's business.

A hit that is sent again after a lost reply counts twice, and a refund gives two back: they alone are not idempotent. To
know them again would take a key for each attempt, and they are off by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared_store.commands import Call, Reply, command, load_script, nothing
from shared_store.keyspace import LIMIT, short_digest

MOST_DIGITS = 19  # of a number that Redis counts with

_HIT = load_script("hit_limit")
_REFUND = load_script("refund_limit")


@dataclass(frozen=True, slots=True)
class Counter:
    """One limit applied to one set of values; `window` in seconds."""

    limit: str
    values: tuple[str, ...]
    count: int
    window: float
    extend_window: bool = False

    @property
    def key(self) -> str:
        """The counter's Redis key."""
        return LIMIT.key(digest=short_digest(self.limit, *self.values))


@dataclass(frozen=True, slots=True)
class Count:
    """How often a counter has been hit, and how many seconds it has left."""

    counter: Counter
    hits: int
    seconds_left: float

    @property
    def exceeded(self) -> bool:
        """More hits than the limit allows."""
        return self.hits > self.counter.count


def hit(counters: Sequence[Counter]) -> Call[list[Count]]:
    """Count an attempt on every one of them, whether or not another is exceeded already."""

    def decode(replies: list[Reply]) -> list[Count]:
        return [
            Count(counter, int(hits), int(left) / 1000) for counter, (hits, left) in zip(counters, replies, strict=True)
        ]

    return Call(
        tuple(_HIT([counter.key], int(counter.window * 1000), int(counter.extend_window)) for counter in counters),
        decode,
    )


def look(counters: Sequence[Counter]) -> Call[list[Count]]:
    """Read counters without counting."""

    def decode(replies: list[Reply]) -> list[Count]:
        return [
            Count(counter, _number(hits), counter.window) for counter, [hits] in zip(counters, replies, strict=True)
        ]

    # MGET, since it passes over what is no string.
    return Call(tuple(command("MGET", counter.key) for counter in counters), decode)


def _number(hits: bytes | None) -> int:
    """Give a count; 0 for junk, which the next hit takes away."""
    return int(hits) if hits is not None and hits.isdigit() and len(hits) < MOST_DIGITS else 0


def refund(keys: Sequence[str]) -> Call[None]:
    """Give one attempt back on each counter, by its key (`Counter.key`)."""
    return Call(tuple(_REFUND([key]) for key in keys), nothing)

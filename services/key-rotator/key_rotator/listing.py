"""What commands show: key sets as rows, tables and JSON, notes. Public facts only, never a private key."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from key_rotator.policy import Policy, rotation_due
from key_rotator.settings import SERVICE
from shared_store.key_sets import KeySet
from shared_store.signing_keys import SigningAlg, fingerprint


@dataclass(frozen=True, slots=True)
class Row:
    """One key: its role, and from when until when it has that role (UTC)."""

    alg: SigningAlg
    role: str
    kid: str
    fingerprint: str
    begins: str
    ends: str


def rows(key_set: KeySet) -> Iterator[Row]:
    """Give a row for each key, in the order of keys.json."""
    for published in key_set.published():
        begins, ends = published.signs_from, published.signs_until
        if published is key_set.current:
            role = "current"
        elif published is key_set.next:
            role = "next"
        else:
            role, begins, ends = "previous", published.signs_until, published.published_until
        key = published.key
        yield Row(key_set.alg, role, key.kid, fingerprint(key), utc(begins), utc(ends))


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay out lines in columns; what is no text for a terminal shows as a question mark."""
    lines = [["".join(letter if letter.isprintable() else "?" for letter in cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )


def as_json(key_sets: Mapping[SigningAlg, KeySet | None], policy: Policy, *, time: float) -> dict[str, object]:
    """Give what `status --json` prints."""
    sets = {
        alg: key_set
        and {
            "version": key_set.version,
            "next_rotation": utc(rotation_due(key_set, policy)),
            "keys": [{name: value for name, value in asdict(row).items() if name != "alg"} for row in rows(key_set)],
        }
        for alg, key_set in key_sets.items()
    }
    return {"time": utc(time), "key_sets": sets}


def utc(time: float) -> str:
    """Write a Unix time as people and machines read it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def note(text: str) -> None:
    """Tell a person something that is not the result asked for."""
    print(f"{SERVICE}: {text}", file=sys.stderr)

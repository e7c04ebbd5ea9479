"""What commands show: key sets as rows, tables and JSON, notes. Public facts only, never a private key."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from key_rotator.policy import Policy, rotation_due
from key_rotator.settings import SERVICE
from service_kit.listing import utc
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


def note(text: str) -> None:
    """Tell a person something that is not the result asked for."""
    print(f"{SERVICE}: {text}", file=sys.stderr)

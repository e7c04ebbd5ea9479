"""The key sets that a Rust Portier Broker keeps in its Redis: a STRING of JSON an algorithm. Read, never written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shared_store.commands import Call, Reply, command
from shared_store.errors import CorruptRecord
from shared_store.keyspace import rust_key_set
from shared_store.signing_keys import SigningAlg, SigningKey, load_pem

LAST_EXPIRY = 253_402_300_799  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class RustKey:
    """A key and when it stops signing, Unix seconds."""

    key: SigningKey
    expires: float


@dataclass(frozen=True, slots=True)
class RustKeySet:
    """One algorithm's keys; each may be missing."""

    alg: SigningAlg
    current: RustKey | None
    next: RustKey | None
    previous: SigningKey | None


def load_rust_key_set(alg: SigningAlg) -> Call[RustKeySet | None]:
    """Read a key set of a Rust broker, None where there is none.

    Raises:
        CorruptRecord: what lies there is not one; the message says why.
    """

    def decode(replies: list[Reply]) -> RustKeySet | None:
        return None if replies[0] is None else _read(alg, replies[0])

    return Call((command("GET", rust_key_set(alg)),), decode)


def _read(alg: SigningAlg, text: bytes) -> RustKeySet:
    try:
        values = json.loads(text)
        if values["signing_alg"] != alg:
            raise ValueError(f"it is of the algorithm {str(values['signing_alg'])[:20]}")  # noqa: TRY301
        previous = values.get("previous")
        return RustKeySet(
            alg=alg,
            current=_read_key(alg, values.get("current")),
            next=_read_key(alg, values.get("next")),
            previous=None if previous is None else _read_pem(alg, previous),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptRecord(
            f"the other broker's {alg} key set ({rust_key_set(alg)}) can't be read: {_reason(error)}"
        ) from error


def _read_key(alg: SigningAlg, values: dict[str, Any] | None) -> RustKey | None:
    if values is None:
        return None
    seconds, nanoseconds = values["expires"]["secs_since_epoch"], values["expires"]["nanos_since_epoch"]
    if not 0 <= seconds <= LAST_EXPIRY or not 0 <= nanoseconds < 10**9:
        raise ValueError("a key's expiry is no time")
    return RustKey(_read_pem(alg, values["value"]), seconds + nanoseconds / 1e9)


def _read_pem(alg: SigningAlg, text: str) -> SigningKey:
    key = load_pem(text)
    if key.alg != alg:
        raise ValueError(f"it holds a key for {key.alg}")
    return key


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "it is not JSON"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) if isinstance(error, ValueError) else "its JSON has another shape"

"""Key sets: the signing keys of one algorithm, with a version that only grows.

Who may sign from when to when is key-rotator's rule; here it is written so that no late writer can undo a newer
state, and read so that what is not a key set is told as such.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from shared_store.commands import Call, Reply, command, load_script
from shared_store.errors import CorruptRecord, KeySetConflict
from shared_store.key_log import MOST_EVENTS, KeyEvent
from shared_store.keyspace import KEY_LOG, KEY_SET, KEYS_UPDATED_CHANNEL
from shared_store.logins import new_operation_id
from shared_store.sealing import Sealer
from shared_store.signing_keys import SigningAlg, SigningKey, UnreadableKeyError, load_pem

_LOAD = load_script("load_key_set")
_SWAP = load_script("swap_key_set")
_WRITTEN = KeyEvent("write")


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A signing key and its times, Unix seconds of the server's clock.

    It signs from `signs_from` to `signs_until` (planned, for a next key), and stays published until
    `published_until` once it is retired.
    """

    key: SigningKey
    published_since: float
    signs_from: float
    signs_until: float
    published_until: float = 0.0


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one algorithm: one signs, one is published ahead, the retired ones are published on.

    `revoked` are the ids of keys that may never come back, newest first.
    """

    alg: SigningAlg
    version: int
    current: PublishedKey
    next: PublishedKey
    previous: tuple[PublishedKey, ...] = ()
    revoked: tuple[str, ...] = ()
    sealed_as_configured: bool = field(default=True, compare=False)

    def published(self) -> Iterator[PublishedKey]:
        """Give the keys of keys.json in their order: the signing one, the next, the retired."""
        yield self.current
        yield self.next
        yield from self.previous


@dataclass(frozen=True, slots=True)
class LoadedKeySet:
    """A key set as it lies in Redis (None: there is none) and the server's time in Unix seconds."""

    key_set: KeySet | None
    time: float


class KeySets:
    """Reads and writes key sets, sealing private keys at rest."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        # Checking an RSA key takes tens of milliseconds of the event loop, and readers poll: each is checked once.
        self._checked: dict[SigningAlg, dict[str, SigningKey]] = {}

    def load(self, alg: SigningAlg) -> Call[LoadedKeySet]:
        """Read a key set.

        Raises:
            CorruptRecord: what lies there is not a key set.
            SealError: a key is sealed under a key-encryption key that is not configured.
        """

        def decode(replies: list[Reply]) -> LoadedKeySet:
            seconds, microseconds, version, *roles = replies[0]
            now = int(seconds) + int(microseconds) / 1_000_000
            return LoadedKeySet(None if version is None else self._read(alg, version, roles), now)

        return Call((_LOAD([KEY_SET.key(alg=alg)]),), decode)

    def version(self, alg: SigningAlg) -> Call[int]:
        """Read the version of a key set that may be unreadable otherwise; 0 for none.

        Raises:
            CorruptRecord: of another type lies there, which no version of this project has written.
        """

        def decode(replies: list[Reply]) -> int:
            try:
                return int(replies[0] or 0)
            except ValueError:
                return 0

        return Call((command("HGET", KEY_SET.key(alg=alg), "version"),), decode)

    def replace(self, key_set: KeySet, *, expected_version: int | None, event: KeyEvent = _WRITTEN) -> Call[None]:
        """Write a key set if the one in Redis still has the expected version (0: there is none), and log the event.

        None expects nothing and overwrites whatever is there: for repairing what can't be read.

        Raises:
            KeySetConflict: another rotator wrote first.
            NotReplicated: it is written, but on too few replicas; who remembers it writes it again after a failover.
        """
        if expected_version is not None and key_set.version <= expected_version:
            raise ValueError("a key set's version only grows")

        def decode(replies: list[Reply]) -> None:
            if not replies[0]:
                raise KeySetConflict(f"another key-rotator changed the {key_set.alg} keys first; read them again")

        words = (
            "any" if expected_version is None else str(expected_version),
            str(key_set.version),
            self._write(key_set.alg, key_set.current),
            self._write(key_set.alg, key_set.next),
            "[" + ",".join(self._write(key_set.alg, key) for key in key_set.previous) + "]",
            new_operation_id(),
            KEYS_UPDATED_CHANNEL,
            json.dumps(key_set.revoked),
            replace(event, kid=key_set.current.key.kid, version=key_set.version).to_json(),
            str(MOST_EVENTS),
        )
        keys = [KEY_SET.key(alg=key_set.alg), KEY_LOG.key(alg=key_set.alg)]
        return Call((_SWAP(keys, *words),), decode, durable=True)

    def _read(self, alg: SigningAlg, version: bytes, roles: list[Any]) -> KeySet:
        try:
            *of_keys, revoked = roles
            current, following, previous = (json.loads(role) for role in of_keys)
            sealed = [self._sealer.is_current(key["private"]) for key in (current, following, *previous)]
            key_set = KeySet(
                alg=alg,
                version=int(version),
                current=self._read_key(alg, current),
                next=self._read_key(alg, following),
                previous=tuple(self._read_key(alg, key) for key in previous),
                revoked=tuple(str(kid) for kid in json.loads(revoked or b"[]")),
                sealed_as_configured=all(sealed),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptRecord(f"the {alg} key set in Redis can't be read: restore or import the keys") from error
        self._checked[alg] = {published.key.private_pem: published.key for published in key_set.published()}
        return key_set

    def _read_key(self, alg: SigningAlg, values: dict[str, Any]) -> PublishedKey:
        pem = self._sealer.open(values["private"], context=f"{alg}:{values['kid']}")
        key = self._checked.get(alg, {}).get(pem) or load_pem(pem)
        if key.kid != values["kid"] or key.alg != alg:
            raise UnreadableKeyError("the key is not the one that its record names")
        return PublishedKey(
            key=key,
            published_since=float(values["published_since"]),
            signs_from=float(values["signs_from"]),
            signs_until=float(values["signs_until"]),
            published_until=float(values["published_until"]),
        )

    def _write(self, alg: SigningAlg, published: PublishedKey) -> str:
        return json.dumps(
            {
                "kid": published.key.kid,
                "private": self._sealer.seal(published.key.private_pem, context=f"{alg}:{published.key.kid}"),
                "published_since": published.published_since,
                "signs_from": published.signs_from,
                "signs_until": published.signs_until,
                "published_until": published.published_until,
            }
        )

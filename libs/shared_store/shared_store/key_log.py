"""The log of what happened to signing keys: who did what and when, by key id. It is bounded, and holds no key."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from shared_store.commands import Call, Reply, command, load_script, nothing
from shared_store.keyspace import KEY_LOG
from shared_store.logins import new_operation_id
from shared_store.signing_keys import SigningAlg

MOST_EVENTS = 1000  # of one algorithm; about 200 octets each
MOST_DETAIL = 200  # characters

_LOG = load_script("log_key_event")


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """What was done (`change`), by whom, which key signs after it, and what else there is to say."""

    change: str
    by: str = ""
    kid: str = ""
    version: int = 0
    detail: str = ""

    def to_json(self) -> str:
        """Write it as it lies in the log; no two writings are the same, so that one sent again is known."""
        return json.dumps({**asdict(self), "detail": self.detail[:MOST_DETAIL], "op": new_operation_id()})


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and when it was logged, Unix seconds of the server's clock."""

    time: float
    event: KeyEvent


def log_event(alg: SigningAlg, event: KeyEvent) -> Call[None]:
    """Log what was done with keys without changing them; a change is logged by the script that writes it."""
    return Call((_LOG([KEY_LOG.key(alg=alg)], event.to_json(), MOST_EVENTS),), nothing)


def logged(alg: SigningAlg, *, most: int = MOST_EVENTS) -> Call[list[LoggedEvent]]:
    """Read the newest events, newest first; entries that are none are left out."""

    def decode(replies: list[Reply]) -> list[LoggedEvent]:
        return [event for event in map(_read, replies[0]) if event is not None]

    return Call((command("LRANGE", KEY_LOG.key(alg=alg), 0, most - 1),), decode)


def _read(entry: bytes) -> LoggedEvent | None:
    seconds, _, text = entry.partition(b" ")
    try:
        values = json.loads(text)
        event = KeyEvent(
            change=str(values["change"]),
            by=str(values["by"]),
            kid=str(values["kid"]),
            version=int(values["version"]),
            detail=str(values["detail"]),
        )
        return LoggedEvent(float(int(seconds)), event)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None

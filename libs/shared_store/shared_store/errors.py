"""What can go wrong with the store, in the store's own words.

    StoreError
    ├── StoreUnavailable      passes by itself: ask again later
    │   ├── StoreUnreachable  no answer, or no connection
    │   │   └── StoreAway     known to be so: nothing was sent
    │   ├── NotReplicated     written, but not on as many replicas as was asked for
    │   ├── StoreDemoted      a replica by now: a failover is under way
    │   ├── StoreFull         out of memory; confirmations still work, they free some
    │   ├── StoreUnsaved      it can't write its snapshot, and takes no more until it can
    │   └── QueueFull         the mail queue is at its bound
    ├── StoreRefused          an operator has to mend redis_url, a certificate, a setting of Redis
    │   ├── LoginRefused      the password, or that there is none
    │   └── StoreDenied       the ACL: a command, a key or a channel
    ├── CorruptRecord         something else wrote under one of our keys
    ├── LockLost              we stalled, and another holder has the lock
    └── KeySetConflict        another rotator wrote a newer version first

redis-py's exceptions end here: `translate` is the one place that reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from redis import exceptions as redis_errors

from shared_store.store_url import StoreUrl
from shared_store.tls_problems import CLOSED, tls_problem, wrong_scheme


class StoreError(Exception):
    """Any failure of the store; `str()` says what happened and what to do about it, `reason` counts it in metrics."""

    reason = "other"


class StoreUnavailable(StoreError):  # noqa: N818  a state, like HTTP's 503, more than an error of the caller
    """The server can't do this now. Nothing is wrong with the call; it may be made again."""

    reason = "unavailable"
    retry_after = 2  # seconds, what a waiting person or client is told


class StoreUnreachable(StoreUnavailable):
    """The server can't be reached or does not answer; what was sent may have been carried out."""

    reason = "unreachable"


class StoreAway(StoreUnreachable):
    """The server is known to be unreachable, so nothing was sent: told at once instead of after the time-out."""


class NotReplicated(StoreUnavailable):
    """The master has it, but too few replicas have confirmed in time: a failover right now could forget it."""

    reason = "not_replicated"


class StoreDemoted(StoreUnavailable):
    """The server is a replica, or became one while it was waited for; a connection to it would go on saying so."""


class StoreFull(StoreUnavailable):
    """The server is out of memory and refuses to add anything."""

    reason = "full"
    retry_after = 30


class StoreUnsaved(StoreUnavailable):
    """The server can't write its snapshot, and refuses to write anything else until it can."""

    reason = "unsaved"
    retry_after = 30


class QueueFull(StoreUnavailable):
    """As many mails wait as `mail_queue_max` allows."""

    reason = "queue_full"
    retry_after = 30


class StoreRefused(StoreError):  # noqa: N818
    """The server is there and says no: credentials, permissions, certificates."""

    reason = "refused"


class LoginRefused(StoreRefused):
    """The server does not let us in: no password, or the wrong one."""


class StoreDenied(StoreRefused):
    """The server knows us, and its ACL denies us what we sent."""


class CorruptRecord(StoreError):  # noqa: N818
    """A value under one of our keys is not what this project writes there."""

    reason = "unreadable"


class LockLost(StoreError):  # noqa: N818
    """The lock expired while we worked under it; what was done must not be written."""


class KeySetConflict(StoreError):  # noqa: N818
    """The key set changed since it was read; read it again and decide again."""


# Where in which script, around what a server says of one: nothing that an operator could look up.
_SCRIPTS_PLACE = re.compile(
    r"Error running script \(call to f_\w+\): |@?user_script: ?\d+: -?| script: (?:\w+, )?on @user_script:\d+\.?"
)

_NAMED = (StoreRefused, CorruptRecord)  # an operator has to know what was sent, and to which kind of key

NO_SENTINEL, NO_MASTER = "no Sentinel answers", "no Sentinel knows of a living master"  # as sentinels.py tells them
_DENIED = "the Redis ACL denies this user a command, a key or a channel: `doctor` says what to give it"
_NO_SENTINEL = "redis_url names a Redis server where it should name Sentinels: theirs is another port, 26379 by default"

# What tells a failure: a part of its text, since servers before 7 wrap a script's error in a text of their own and tell
# several errors in text only; or redis-py's type, since it takes the code that it knows off the text. First match wins.
_KNOWN: tuple[tuple[str, type[Exception] | None, type[StoreError], str], ...] = (
    (f"{NO_SENTINEL}: AuthenticationError", None, LoginRefused,
     "the Sentinels refuse the password: look at sentinel_username and sentinel_password in redis_url"),
    (CLOSED, None, StoreUnreachable,
     "Redis closed the connection: if it goes on doing so, it does not accept redis_client_cert"),
    (NO_SENTINEL, None, StoreUnreachable, "none of the Sentinels in redis_url can be reached"),
    (NO_MASTER, None, StoreUnavailable,
     "the Sentinels name no master: a failover is under way, or redis_url names the wrong master or Sentinels"),
    ("OOM ", redis_errors.OutOfMemoryError, StoreFull,
     "Redis is out of memory: raise maxmemory, or set maxmemory-policy volatile-lru"),
    ("READONLY", redis_errors.ReadOnlyError, StoreDemoted,
     "Redis is a read-only replica: a failover is under way, or redis_url is wrong"),
    ("UNBLOCKED", None, StoreDemoted, "Redis became a replica while it was waited for: a failover is under way"),
    ("WAIT cannot be used with replica", None, StoreDemoted, "Redis is a replica by now: a failover is under way"),
    ("MISCONF", None, StoreUnsaved,
     "Redis can't write its snapshot and refuses writes: look at its disk and its log"),
    ("LOADING", redis_errors.BusyLoadingError, StoreUnavailable, "Redis is still loading its data"),
    ("MASTERDOWN", redis_errors.MasterDownError, StoreUnavailable, "the Redis replica has lost its master"),
    ("CLUSTERDOWN", redis_errors.ClusterDownError, StoreUnavailable,
     "the Redis Cluster is down: some hash slots have no master"),
    ("is not covered by the cluster", redis_errors.SlotNotCoveredError, StoreUnavailable,
     "the Redis Cluster is down: some hash slots have no master"),
    ("TRYAGAIN", redis_errors.TryAgainError, StoreUnavailable, "the Redis Cluster is moving this hash slot"),
    ("MOVED ", redis_errors.MovedError, StoreUnavailable,
     "the Redis Cluster has this hash slot on another node: for a Cluster redis_url begins with redis+cluster://"),
    ("ASK ", redis_errors.AskError, StoreUnavailable, "the Redis Cluster is moving this hash slot"),
    ("NOREPLICAS", None, StoreUnavailable, "Redis has fewer replicas than min-replicas-to-write asks for"),
    ("BUSY ", None, StoreUnavailable, "Redis is busy running a script"),
    ("protected mode", None, LoginRefused,
     "Redis lets in nobody but its own machine (protected mode) before it has users or a password: docs/redis.md"),
    ("Protocol error", redis_errors.InvalidResponse, StoreUnreachable, "what answers does not speak as Redis does"),
    ("Connection closed by server", None, StoreUnreachable, "Redis closed the connection"),
    ("Connection reset by peer", ConnectionResetError, StoreUnreachable, "Redis closed the connection"),
    ("max number of clients", redis_errors.MaxConnectionsError, StoreUnavailable,
     "Redis has no connection left: raise its maxclients"),
    ("NOPERM", redis_errors.NoPermissionError, StoreDenied, _DENIED),
    ("ACL failure in script", None, StoreDenied, _DENIED),
    ("user executing the script can't", None, StoreDenied, _DENIED),
    ("called without any password", None, LoginRefused,
     "Redis has no password but redis_url does: take it out there, or set one in Redis"),
    ("Authentication required", None, LoginRefused, "Redis asks for a password: put it into redis_url"),
    ("NOAUTH", None, LoginRefused, "Redis asks for a password: put it into redis_url"),
    ("WRONGPASS", redis_errors.AuthenticationError, LoginRefused,
     "Redis refuses the user or password in redis_url"),
    ("DB index is out of range", None, StoreRefused,
     "Redis has no database of the number in redis_url: take it out, or raise Redis' `databases`"),
    ("unknown command `SENTINEL`", None, StoreRefused, _NO_SENTINEL),  # Redis 6
    ("unknown command 'SENTINEL'", None, StoreRefused, _NO_SENTINEL),
    ("unknown command", None, StoreRefused,
     "Redis does not know, or was told to hide, a command that is needed: Redis 6.2 or Valkey 7.2 at the least"),
    ("WRONGTYPE", None, CorruptRecord, "a key of ours holds another type: is the database shared with something else?"),
    ("user_script", None, CorruptRecord, "a value under a key of ours is not what this project writes there"),
)  # fmt: skip

_GENERAL: tuple[tuple[type[Exception], type[StoreError], str], ...] = (
    (redis_errors.TimeoutError, StoreUnreachable, "Redis does not answer in time"),
    (redis_errors.ClusterError, StoreUnreachable, "the Redis Cluster can't serve this now"),
    (redis_errors.RedisClusterException, StoreUnreachable, "the Redis Cluster can't serve this now"),
    (redis_errors.ConnectionError, StoreUnreachable, "Redis can't be reached"),
    (TimeoutError, StoreUnreachable, "Redis does not answer in time"),
    (OSError, StoreUnreachable, "Redis can't be reached"),
)


def translate(error: BaseException) -> StoreError:
    """Give the store's own exception for one of redis-py's, to be raised `from` it."""
    problem = tls_problem(_causes(error))
    if problem is not None:
        return StoreRefused(f"TLS to Redis failed: {problem}")
    for cause in _causes(error):
        text = str(cause)
        for mark, type_, kind, advice in _KNOWN:
            if mark in text or (type_ is not None and isinstance(cause, type_)):
                return kind(_told(advice, text, getattr(cause, "__notes__", ()) if issubclass(kind, _NAMED) else ()))
    for general, kind, advice in _GENERAL:
        if isinstance(error, general):
            return kind(_told(advice, str(error)))
    return StoreError(_told("Redis answered what this project does not expect", str(error) or type(error).__name__))


def translate_first(error: BaseException, url: StoreUrl) -> StoreError:
    """Translate what became of the first words to a server: it may be the scheme of redis_url that is wrong."""
    told = translate(error)
    hint = wrong_scheme(url, list(_causes(error))) if isinstance(told, StoreUnreachable) else None
    return told if hint is None else type(told)(f"{told}: {hint}")


def most_telling(errors: Sequence[Exception]) -> Exception | None:
    """Give what one of several servers failed with: where one tells what is wrong, the others' silence says nothing."""

    def says_little(error: Exception) -> int:
        if isinstance(error, TimeoutError | redis_errors.TimeoutError):
            return 2
        return 1 if CLOSED in str(error) else 0

    return min(errors, key=says_little, default=None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _told(advice: str, text: str, notes: Sequence[str] = ()) -> str:
    """Join what to do about it, what the server said, and what was sent."""
    text = _SCRIPTS_PLACE.sub("", text)
    sent = [f"sent was {note}" for note in notes[:1]]
    parts = [part if len(part) <= 200 else f"{part[:200]}…" for part in (text, *sent) if part]
    return f"{advice} ({'; '.join(parts)})" if parts else advice

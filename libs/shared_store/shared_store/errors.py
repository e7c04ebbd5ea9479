"""What can go wrong with the store, in the store's own words.

    StoreError
    ├── StoreUnavailable      passes by itself: ask again later
    │   ├── StoreFull         out of memory; confirmations still work, they free some
    │   └── QueueFull         the mail queue is at its bound
    ├── StoreRefused          an operator has to mend a password, an ACL, a certificate
    ├── CorruptRecord         something else wrote under one of our keys
    ├── LockLost              we stalled, and another holder has the lock
    └── KeySetConflict        another rotator wrote a newer version first

redis-py's exceptions end here: `translate` is the one place that reads them.
"""

from __future__ import annotations

import ssl

from redis import exceptions as redis_errors


class StoreError(Exception):
    """Any failure of the store; `str()` says what happened and what to do about it."""


class StoreUnavailable(StoreError):  # noqa: N818  a state, like HTTP's 503, more than an error of the caller
    """The server can't do this now. Nothing is wrong with the call; it may be made again."""

    retry_after = 2  # seconds, what a waiting person or client is told


class StoreFull(StoreUnavailable):
    """The server is out of memory and refuses to add anything."""

    retry_after = 30


class QueueFull(StoreUnavailable):
    """As many mails wait as `mail_queue_max` allows."""

    retry_after = 30


class StoreRefused(StoreError):  # noqa: N818
    """The server is there and says no: credentials, permissions, certificates."""


class CorruptRecord(StoreError):  # noqa: N818
    """A value under one of our keys is not what this project writes there."""


class LockLost(StoreError):  # noqa: N818
    """The lock expired while we worked under it; what was done must not be written."""


class KeySetConflict(StoreError):  # noqa: N818
    """The key set changed since it was read; read it again and decide again."""


# Servers before 7 wrap a script's error in a text of their own, and tell several errors in text only, so the
# whole message is searched, first match wins.
_BY_TEXT: tuple[tuple[str, type[StoreError], str], ...] = (
    ("OOM ", StoreFull, "Redis is out of memory: raise maxmemory, or set maxmemory-policy volatile-lru"),
    ("READONLY", StoreUnavailable, "Redis is a read-only replica: a failover is under way, or redis_url is wrong"),
    ("MISCONF", StoreUnavailable, "Redis can't write its snapshot and refuses writes: look at its disk and its log"),
    ("LOADING", StoreUnavailable, "Redis is still loading its data"),
    ("CLUSTERDOWN", StoreUnavailable, "the Redis Cluster is down: some hash slots have no master"),
    ("MASTERDOWN", StoreUnavailable, "the Redis replica has lost its master"),
    ("TRYAGAIN", StoreUnavailable, "the Redis Cluster is moving this hash slot"),
    ("NOREPLICAS", StoreUnavailable, "Redis has fewer replicas than min-replicas-to-write asks for"),
    ("BUSY ", StoreUnavailable, "Redis is busy running a script"),
    ("max number of clients", StoreUnavailable, "Redis has no connection left: raise its maxclients"),
    ("NOPERM", StoreRefused, "the Redis ACL denies this user a command or a key"),
    ("NOAUTH", StoreRefused, "Redis asks for a password: put it into redis_url"),
    ("WRONGPASS", StoreRefused, "Redis refuses the user or password in redis_url"),
    ("WRONGTYPE", CorruptRecord, "a key of ours holds another type: is the database shared with something else?"),
)  # fmt: skip

_BY_TYPE: tuple[tuple[type[Exception], type[StoreError], str], ...] = (
    (redis_errors.AuthenticationError, StoreRefused, "Redis refuses the user or password in redis_url"),
    (redis_errors.AuthorizationError, StoreRefused, "Redis refuses this user"),
    (redis_errors.NoPermissionError, StoreRefused, "the Redis ACL denies this user a command or a key"),
    (redis_errors.MaxConnectionsError, StoreUnavailable, "all connections to Redis are in use"),
    (redis_errors.TimeoutError, StoreUnavailable, "Redis does not answer in time"),
    (redis_errors.ClusterError, StoreUnavailable, "the Redis Cluster can't serve this now"),
    (redis_errors.RedisClusterException, StoreUnavailable, "the Redis Cluster can't serve this now"),
    (redis_errors.ConnectionError, StoreUnavailable, "Redis can't be reached"),
    (TimeoutError, StoreUnavailable, "Redis does not answer in time"),
    (OSError, StoreUnavailable, "Redis can't be reached"),
)


def translate(error: BaseException) -> StoreError:
    """Give the store's own exception for one of redis-py's, to be raised `from` it."""
    text = str(error)
    certificate = _certificate_problem(error)
    if certificate is not None:
        return StoreRefused(f"TLS to Redis failed: {certificate}; check redis_ca_file and the name in redis_url")
    for mark, kind, advice in _BY_TEXT:
        if mark in text:
            return kind(f"{advice} ({_shortened(text)})")
    for cause, kind, advice in _BY_TYPE:
        if isinstance(error, cause):
            return kind(f"{advice} ({_shortened(text)})" if text else advice)
    return StoreError(f"Redis answered what this project does not expect: {_shortened(text)}")


def _certificate_problem(error: BaseException) -> str | None:
    """Say what is wrong with a certificate, where that is behind the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "handshake failed"
        cause = cause.__cause__ or cause.__context__
    return "certificate verify failed" if "CERTIFICATE_VERIFY_FAILED" in str(error) else None


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"

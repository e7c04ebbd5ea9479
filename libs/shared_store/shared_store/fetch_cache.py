"""Documents of other servers (WebFinger, provider discovery, key sets), kept for all instances.

A document is fresh for a while and then kept stale for a while longer, so that a slow provider need not be waited
for twice; a failure is kept too, for a short time.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared_store.commands import Call, Reply, load_script, nothing
from shared_store.errors import CorruptRecord
from shared_store.keyspace import FETCH, digest

_READ = load_script("read_fetch")
_WRITE = load_script("write_fetch")


@dataclass(frozen=True, slots=True)
class CachedFetch:
    """What is known of a URL: its document or the failure to fetch it, and whether that is still fresh."""

    document: str | None
    failure: str | None
    fresh: bool


def read(url: str) -> Call[CachedFetch | None]:
    """Read what is known of a URL; None where nothing is."""

    def decode(replies: list[Reply]) -> CachedFetch | None:
        if replies[0] is None:
            return None
        document, failure, fresh_for, _kept_for = replies[0]
        try:
            return CachedFetch(
                document=None if document is None else document.decode(),
                failure=None if failure is None else failure.decode(),
                fresh=fresh_for > 0,
            )
        except UnicodeDecodeError as error:
            raise CorruptRecord("a cached document in Redis is not text") from error

    return Call((_READ([FETCH.key(digest=digest(url))]),), decode)


def write(url: str, document: str, *, fresh: float, stale: float) -> Call[None]:
    """Keep a document: fresh for that many seconds, then stale for that many more."""
    words = ("document", document, int(fresh * 1000), int(stale * 1000))
    return Call((_WRITE([FETCH.key(digest=digest(url))], *words),), nothing)


def write_failure(url: str, reason: str, *, keep: float) -> Call[None]:
    """Keep, for `keep` seconds, that a URL could not be fetched; a document that is there already stays, stale."""
    words = ("failure", reason[:500], int(keep * 1000), 0)
    return Call((_WRITE([FETCH.key(digest=digest(url))], *words),), nothing)

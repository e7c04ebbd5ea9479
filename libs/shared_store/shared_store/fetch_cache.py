"""Documents of other servers (WebFinger, provider discovery, key sets), kept for all instances.

A document is fresh for a while and then kept stale for a while longer, so that a slow provider need not be waited
for twice; a failure is kept too, for a short time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared_store.commands import Call, Command, Reply, command, load_script, nothing
from shared_store.keyspace import FETCH, digest

LONGEST = 64 * 1024  # octets of a document or failure; anything longer is none of ours

_READ = load_script("read_fetch")
_WRITE = load_script("write_fetch")


@dataclass(frozen=True, slots=True)
class CachedFetch:
    """What is known of a URL: its document or the failure to fetch it, and whether that is still fresh."""

    document: str | None
    failure: str | None
    fresh: bool


Known = Mapping[str, CachedFetch | None]
"""What was read of some URLs; None for one of which nothing is known."""


def read(url: str) -> Call[CachedFetch | None]:
    """Read what is known of a URL; None where nothing is, or nothing that can be read."""
    return Call((_read(url),), lambda replies: _decode(replies[0]))


def read_all(urls: Sequence[str]) -> Call[Known]:
    """Read what is known of several URLs, perhaps none, in one round trip."""
    return Call(
        tuple(_read(url) for url in urls),
        lambda replies: {url: _decode(reply) for url, reply in zip(urls, replies, strict=True)},
    )


def write(url: str, document: str, *, fresh: float, stale: float) -> Call[None]:
    """Keep a document of at most `LONGEST` octets: fresh for that many seconds, then stale for that many more."""
    words = ("document", document, int(fresh * 1000), int(stale * 1000))
    return Call((_WRITE([FETCH.key(digest=digest(url))], *words),), nothing)


def write_failure(url: str, reason: str, *, keep: float, stale: float = 0.0) -> Call[None]:
    """Keep that a URL could not be fetched: fresh for `keep` seconds, then stale for `stale` more.

    A document that is there already stays with its own life, and counts as fresh for `keep` seconds.
    """
    words = ("failure", reason[:500], int(keep * 1000), int(stale * 1000))
    return Call((_WRITE([FETCH.key(digest=digest(url))], *words),), nothing)


def forget(url: str) -> Call[None]:
    """Keep nothing about a URL any more."""
    return Call((command("DEL", FETCH.key(digest=digest(url))),), nothing)


def _read(url: str) -> Command:
    return _READ([FETCH.key(digest=digest(url))], LONGEST)


def _decode(reply: Reply) -> CachedFetch | None:
    if reply is None:
        return None
    document, failure = map(_text, reply[:2])
    if document is None and failure is None:
        return None
    return CachedFetch(document, failure, fresh=reply[2] > 0)


def _text(value: bytes | None) -> str | None:
    """Decode a field; one that is no UTF-8 counts as not there, and is written over once the URL has been fetched."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None

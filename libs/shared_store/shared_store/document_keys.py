"""`python -m shared_store.document_keys` writes docs/redis-keys.md from keyspace.py."""

from __future__ import annotations

from pathlib import Path

from shared_store.keyspace import KEYS, KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL, KeyPattern, mail_result_channel

DOCUMENT = Path(__file__).parents[3] / "docs" / "redis-keys.md"

_HEAD = """# Keys in Redis

<!-- Made from libs/shared_store/shared_store/keyspace.py by `python -m shared_store.document_keys`: edit it there. -->

Everything that the broker keeps in Redis. What stands in braces is the key's hash tag: keys with the same tag lie in
one slot of a Cluster. Any key with a time to live may be evicted: that costs work or one login, never a wrong result.

| key | type | time to live | written by | read by | what it is |
| --- | --- | --- | --- | --- | --- |
"""


def table() -> str:
    """Give the document: a table of keys, and the channels."""
    channels = (KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL, mail_result_channel("<instance>"))
    tail = "\nChannels, for hints whose loss costs time alone: " + ", ".join(f"`{name}`" for name in channels) + ".\n"
    return _HEAD + "".join(_row(pattern) for pattern in KEYS) + tail


def _row(pattern: KeyPattern) -> str:
    parts = ("session", "digest", "name", "alg", "tag", "worker", "job")
    key = pattern.key(**{part: f"<{part}>" for part in parts})
    cells = (
        f"`{key}`",
        pattern.type,
        pattern.ttl or "none",
        ", ".join(pattern.writers),
        ", ".join(pattern.readers),
        pattern.why,
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    DOCUMENT.write_text(table())

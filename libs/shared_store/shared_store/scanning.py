"""Looking through all keys of a kind: slow on a busy server, for people who look, never on a request's way."""

from __future__ import annotations

from collections.abc import AsyncIterator

from redis.exceptions import RedisError

from shared_store.errors import translate
from shared_store.store import Store


async def tags_of(store: Store, pattern: str) -> AsyncIterator[str]:
    """Give what stands in the braces of each key that matches, those of a whole Cluster.

    Raises:
        StoreError: the server can't be reached, or does not allow it.
    """
    try:
        async for key in store.client.scan_iter(match=pattern, count=1000):
            yield key.decode("utf-8", "replace").partition("{")[2].rstrip("}")
    except (RedisError, OSError, TimeoutError) as error:
        raise translate(error) from error

"""One pub/sub subscription a process. Notices are hints: losing one costs time, never correctness."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.client import PubSub

from shared_store.connection import Client
from shared_store.errors import translate
from shared_store.store import Store

RETRY_AFTER = 0.5  # seconds between tries to subscribe again
LOOK_UP = 1.0  # seconds after which a channel that is listened to for the first time is subscribed at the latest
BACKLOG = 1000  # notices a listener may leave unread before the oldest are dropped
LOOK_YOURSELF = b""  # what is heard where a subscription begins, also anew: nobody heard what was said before

log = logging.getLogger(__name__)

Listener = asyncio.Queue[bytes]


class Notices:
    """Hears channels for everyone in the process. `run` is its task; `listen` is for the others."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: dict[str, set[Listener]] = {}
        self.connected = asyncio.Event()

    @contextlib.contextmanager
    def listen(self, channel: str) -> Iterator[Listener]:
        """Receive what is published on a channel while the block runs, and LOOK_YOURSELF where some may be lost."""
        listener: Listener = asyncio.Queue(BACKLOG)
        self._listeners.setdefault(channel, set()).add(listener)
        try:
            yield listener
        finally:
            # The subscription itself stays: channels are few, and the next listener finds it ready.
            self._listeners[channel].discard(listener)

    async def run(self) -> None:
        """Keep the subscription up until cancelled; reconnects by itself."""
        while True:
            try:
                await self._follow()
            except Exception as error:  # noqa: BLE001  any failure here means only that hints are missing for a while
                level = logging.INFO if self.connected.is_set() else logging.DEBUG  # once an interruption
                log.log(level, "notices_interrupted: %s", translate(error))
            finally:
                self.connected.clear()
            await asyncio.sleep(RETRY_AFTER)

    def _pubsub(self, client: Client) -> PubSub:
        # Every node of a Cluster hears every channel; one at random, lest we come back to one that is lost.
        return client.pubsub(node=client.get_random_node()) if isinstance(client, RedisCluster) else client.pubsub()

    async def _follow(self) -> None:
        client = self._store.client
        if isinstance(client, RedisCluster):
            await client.initialize()
        async with self._pubsub(client) as pubsub:
            subscribed: set[str] = set()
            while True:
                new = set(self._listeners) - subscribed
                if new:
                    await pubsub.subscribe(*new)
                    subscribed |= new
                    self.connected.set()
                if subscribed:
                    await self._hear(pubsub, subscribed)
                else:
                    await asyncio.sleep(LOOK_UP)

    async def _hear(self, pubsub: PubSub, subscribed: set[str]) -> None:
        """Deliver what comes until there is more to subscribe to.

        Raises:
            TimeoutError: the connection was silent, and was asked for a sign of life in vain. A stopped master, or one
                that the network has swallowed, keeps its connections open for ever.
        """
        patience = self._store.options.timeout
        heard, asked = time.monotonic(), 0.0
        while set(self._listeners) <= subscribed:
            message = await pubsub.get_message(timeout=LOOK_UP)
            now = time.monotonic()
            if message is not None:
                heard, asked = now, 0.0
                self._deliver(message)
            elif asked and now - asked > patience:
                raise TimeoutError
            elif not asked and now - heard > patience:
                await pubsub.ping()
                asked = now

    def _deliver(self, message: dict[str, Any]) -> None:
        if message["type"] not in {"message", "subscribe"}:
            return
        notice = message["data"] if message["type"] == "message" else LOOK_YOURSELF
        for listener in self._listeners.get(message["channel"].decode(), ()):
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(notice)

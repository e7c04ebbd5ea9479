"""The store: one connection factory's clients, and how calls are sent through them.

Everything else in this package builds `Call`s or is built on this class; nothing else holds a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from shared_store.commands import Call, Command, Reply, Value
from shared_store.connection import RETRIES, Client, ConnectionOptions, StoreUrl, open_client
from shared_store.errors import StoreError, translate

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")

GRACE = 1.0  # seconds over the socket's own time-out before a call is given up as a whole


class Store:
    """Sends calls to Redis, each within a bound of time, and raises only this package's errors.

    Two clients: one sends a call again when its reply is lost, and is for calls, which are idempotent; the other never
    does, and is for blocking takes, where sending again would take two.
    """

    def __init__(self, url: str, options: ConnectionOptions | None = None) -> None:
        self.url = StoreUrl.parse(url)
        self.options = options or ConnectionOptions()
        self.round_trips = 0  # how often a caller waited; tests and bench/ read both
        self.commands = 0
        self._client = open_client(self.url, self.options, retries=RETRIES)
        self._taker: Client | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await _close(self._client)
        if self._taker is not None:
            await _close(self._taker)

    async def run(self, call: Call[T]) -> T:
        """Send one call and wait for its value.

        Raises:
            StoreError: what went wrong, in the store's own words.
        """
        return call.decode(await self._send(call.commands))

    @overload
    async def run_all(self, first: Call[T], second: Call[U], /) -> tuple[T, U]: ...
    @overload
    async def run_all(self, first: Call[T], second: Call[U], third: Call[V], /) -> tuple[T, U, V]: ...
    async def run_all(self, *calls: Call[Any]) -> tuple[Any, ...]:
        """Send several calls in one round trip and wait for their values, in order.

        They are not a transaction: one may fail where another has been carried out; then the failure is raised.

        Raises:
            StoreError: what went wrong with the first that failed.
        """
        replies = await self._send([command for call in calls for command in call.commands])
        values = []
        for call in calls:
            count = len(call.commands)
            values.append(call.decode(replies[:count]))
            replies = replies[count:]
        return tuple(values)

    async def take(self, *words: Value, block: float) -> Reply:
        """Send one blocking command, which the server may sit on for `block` seconds, exactly once.

        Never cancel it: what it had taken by then would be in nobody's hand until the next reaping.
        """
        if self._taker is None:
            # redis-py's own time-out is for the socket; the server answers a blocked command after `block`.
            self._taker = open_client(self.url, self.options, retries=0, timeout=block + 2)
        self.round_trips += 1
        self.commands += 1
        try:
            async with asyncio.timeout(block + 2 + self.options.timeout + GRACE):
                return await self._taker.execute_command(*words)
        except Exception as error:
            raise translate(error) from error

    async def ping(self) -> None:
        """Learn whether Redis answers, by one command that touches no key.

        Raises:
            StoreError: it does not, and why.
        """
        await self._send([Command(("PING",))])

    @property
    def client(self) -> Client:
        """The client behind the store, for this package's own modules (pub/sub, doctor) and for tests."""
        return self._client

    async def _send(self, commands: Sequence[Command]) -> list[Reply]:
        if not commands:
            return []
        self.round_trips += 1
        self.commands += len(commands)
        try:
            async with asyncio.timeout(self.options.timeout + GRACE):
                return await self._send_and_load_scripts(commands)
        except StoreError:
            raise
        except Exception as error:
            raise translate(error) from error

    async def _send_and_load_scripts(self, commands: Sequence[Command]) -> list[Reply]:
        replies = await self._exchange(commands)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)]
        if unknown:
            again = await self._exchange([commands[i].with_script_text() for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands in one round trip; a command's error is its reply."""
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0].words)]
            except redis_errors.NoScriptError as error:
                return [error]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command.words)
        return await pipeline.execute(raise_on_error=False)


async def _close(client: Client) -> None:
    await client.aclose()
    if isinstance(client, Redis):
        await client.connection_pool.disconnect()

"""The store: one connection factory's clients, and how calls are sent through them.

Everything else in this package builds `Call`s or is built on this class; nothing else holds a client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from redis import exceptions as redis_errors
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from shared_store import cluster
from shared_store.commands import Call, Command, Reply, Value, command
from shared_store.connection import (
    RETRIES,
    Client,
    ConnectionOptions,
    ConnectionSettings,
    close_client,
    open_client,
)
from shared_store.errors import (
    CorruptRecord,
    NotReplicated,
    StoreDemoted,
    StoreError,
    StoreUnavailable,
    StoreUnreachable,
    translate,
    translate_first,
)
from shared_store.outage import Outage
from shared_store.store_url import StoreUrl
from shared_store.troubles import Troubles

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
W = TypeVar("W")

GRACE = 1.0  # seconds over the socket's own time-out before a call is given up as a whole
PROBE_BOUND = 5.0  # seconds that a look whether it is back may take, connecting included
MOST_CALLS = 2000  # at once, waiting for their turn or their reply; a server that is there has hardly ever so many


class Secret(Protocol):
    """What keeps a value out of logs, as pydantic's SecretStr."""

    def get_secret_value(self) -> str:
        """Give the value."""


class StoreSettings(ConnectionSettings, Protocol):
    """What every service reads about Redis, its URL included."""

    @property
    def redis_url(self) -> Secret: ...  # noqa: D102  declared, with its help, in service_kit


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
        self._takers: dict[float, Client] = {}  # by how long the server may sit on a command
        # Callers wait their turn here: redis-py's pools for Sentinel and Cluster raise where they are used up.
        self._turns = asyncio.Semaphore(self.options.max_connections)
        self._calls = 0  # that wait for their turn or their reply
        self._outage = Outage(self._probe, several=self.url.topology == "cluster")
        self._troubles = Troubles()
        self._has_answered = False

    @classmethod
    def of(cls, settings: StoreSettings, *, client_name: str) -> Self:
        """Make a service's store; it connects when it is first used."""
        return cls(settings.redis_url.get_secret_value(), ConnectionOptions.of(settings, client_name=client_name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._outage.aclose()
        for client in (self._client, *self._takers.values()):
            await close_client(client)

    async def run(self, call: Call[T]) -> T:
        """Send one call and wait for its value.

        Raises:
            StoreError: what went wrong, in the store's own words.
        """
        return self._decode(call, await self._send(call.commands, durable=call.durable))

    @overload
    async def run_all(self, first: Call[T], second: Call[U], /) -> tuple[T, U]: ...
    @overload
    async def run_all(self, first: Call[T], second: Call[U], third: Call[V], /) -> tuple[T, U, V]: ...
    @overload
    async def run_all(
        self, first: Call[T], second: Call[U], third: Call[V], fourth: Call[W], /
    ) -> tuple[T, U, V, W]: ...
    async def run_all(self, *calls: Call[Any]) -> tuple[Any, ...]:
        """Send several calls in one round trip and wait for their values, in order.

        They are not a transaction: one may fail where another has been carried out; then the failure is raised.

        Raises:
            StoreError: what went wrong with the first that failed.
        """
        commands = [one for call in calls for one in call.commands]
        replies = await self._send(commands, durable=any(call.durable for call in calls))
        values = []
        for call in calls:
            count = len(call.commands)
            values.append(self._decode(call, replies[:count]))
            replies = replies[count:]
        return tuple(values)

    async def take(self, *words: Value, block: float) -> Reply:
        """Send one blocking command, which the server may sit on for `block` seconds, exactly once.

        Never cancel it: what it had taken by then would be in nobody's hand until the next reaping.
        """
        if block not in self._takers:
            # redis-py's own time-out is for the socket; the server answers a blocked command after `block`.
            self._takers[block] = open_client(self.url, self.options, retries=0, timeout=block + 2)
        taker = self._takers[block]
        self.round_trips += 1
        self.commands += 1
        async with self._bounded(taker, block + 2 + self.options.timeout + GRACE):
            one = Command(words)
            if isinstance(taker, RedisCluster):
                [reply] = await cluster.exchange(taker, [one], within=self.options.timeout, once=True)
            else:
                reply = await _one(taker, one)
            return self._good([one], [reply])[0]

    async def ping(self) -> None:
        """Learn whether Redis answers, by one command that touches no key.

        Raises:
            StoreError: it does not, and why.
        """
        self.round_trips += 1
        self.commands += 1
        # A Cluster without one of its replicas is as good as whole.
        where = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(self._client, RedisCluster) else {}
        async with self._bounded(self._client, self.options.timeout + GRACE), self.turn():
            await self._client.execute_command("PING", **where)
            self._has_answered = True
            self._troubles.solved(())

    async def check_ready(self) -> None:
        """Make sure that Redis answers and refuses nothing.

        Raises:
            StoreError: it does not; for a command that was refused lately, which it was.
        """
        await self.ping()
        self._troubles.check()

    def told(self, error: Exception) -> StoreError:
        """Give the store's own exception for one of redis-py's, to be raised `from` it."""
        return translate(error) if self._has_answered else translate_first(error, self.url)

    async def _probe(self) -> None:
        """Learn whether anything answers, past the turns of those that still wait for it: of a Cluster, any master."""
        try:
            async with asyncio.timeout(PROBE_BOUND):
                await self._ask_anyone()
        except StoreError:
            raise
        except Exception as error:
            raise self.told(error) from error

    async def _ask_anyone(self) -> None:
        client = self._client
        if not isinstance(client, RedisCluster):
            await client.ping()
            return
        await client.initialize()
        asking = [asyncio.create_task(_ping(client, node)) for node in client.get_primaries()]
        try:
            for answer in asyncio.as_completed(asking):
                with contextlib.suppress(Exception):
                    await answer
                    return
            raise StoreUnreachable("no master of the Redis Cluster answers")
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    @property
    def client(self) -> Client:
        """The client behind the store, for this package's own modules (pub/sub, doctor) and for tests."""
        return self._client

    async def _send(self, commands: Sequence[Command], *, durable: bool) -> list[Reply]:
        if not commands:
            return []
        durable = durable and self.options.wait_replicas > 0
        bound = self.options.timeout + GRACE + (self.options.wait_timeout if durable else 0)
        async with self._bounded(self._client, bound), self.turn():
            replies = await self._send_and_load_scripts([*commands, self._wait()] if durable else commands)
        if durable and (reached := replies.pop()) < self.options.wait_replicas:
            raise NotReplicated(
                f"Redis has it, but {reached} of the {self.options.wait_replicas} replicas that redis_wait_replicas "
                f"asks for have confirmed within {self.options.wait_timeout:g} s: look at the replicas"
            )
        return replies

    def _wait(self) -> Command:
        return command("WAIT", self.options.wait_replicas, int(self.options.wait_timeout * 1000))

    async def _send_and_load_scripts(self, commands: Sequence[Command]) -> list[Reply]:
        replies = await self._exchange(commands)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, redis_errors.NoScriptError)]
        if unknown:
            if commands[-1].words[0] == "WAIT":  # nothing was written that it could have waited for
                unknown.append(len(commands) - 1)
            again = await self._exchange([commands[i].with_script_text() for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return self._good(commands, replies)

    def _good(self, commands: Sequence[Command], replies: list[Reply]) -> list[Reply]:
        """Give the replies back, or raise the first that is an error."""
        for sent, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                reply.add_note(str(sent))
                raise reply
        self._has_answered = True
        self._troubles.solved(commands)
        return replies

    def _decode(self, call: Call[T], replies: list[Reply]) -> T:
        try:
            return call.decode(replies)
        except CorruptRecord as error:
            self._troubles.note(error)
            raise
        except (ValueError, TypeError, AttributeError) as error:
            kinds = ", ".join(dict.fromkeys(map(str, call.commands)))
            told = CorruptRecord(f"a value in Redis is not what this project writes there (sent was {kinds})")
            self._troubles.note(told)
            raise told from error

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands in one round trip; an error that a server answered with is its command's reply."""
        self.round_trips += 1
        self.commands += len(commands)
        client = self._client
        if isinstance(client, RedisCluster):
            replies = await cluster.exchange(client, commands, within=self.options.timeout)
        elif len(commands) == 1:
            replies = [await _one(client, commands[0])]
        else:
            pipeline = client.pipeline(transaction=False)
            for one in commands:
                pipeline.execute_command(*one.words)
            replies = await pipeline.execute(raise_on_error=False)
        return replies

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a connection's turn: not while the server is known to be away, nor where too many wait already."""
        if self._calls >= MOST_CALLS:
            raise StoreUnavailable("more calls wait for Redis than it can answer in time")
        self._calls += 1
        try:
            async with self._turns:
                self._outage.check()
                yield
        finally:
            self._calls -= 1

    @contextlib.asynccontextmanager
    async def _bounded(self, client: Client, seconds: float) -> AsyncIterator[None]:
        """Bound what is done with a client, and tell its failures in the store's own words."""
        self._outage.check()
        try:
            async with asyncio.timeout(seconds):
                yield
        except StoreError:
            raise
        except Exception as error:
            told = self.told(error)
            if isinstance(client, Redis) and isinstance(told, StoreDemoted | StoreUnreachable):
                # An old master, perhaps: the next call has to ask anew who is master, and not trust a connection to
                # this one. A Cluster's replicas redirect by themselves.
                await client.connection_pool.disconnect(inuse_connections=False)
            if client is self._client:  # which has tried again; a blocking take may have lost no more than a connection
                self._outage.note(told)
            self._troubles.note(told, "".join(getattr(error, "__notes__", ())))
            raise told from error


async def _one(client: Redis, one: Command) -> Reply:
    try:
        return await client.execute_command(*one.words)  # type: ignore[no-untyped-call]
    except redis_errors.ResponseError as error:
        return error


async def _ping(client: RedisCluster, node: ClusterNode) -> None:
    await client.execute_command("PING", target_nodes=[node])

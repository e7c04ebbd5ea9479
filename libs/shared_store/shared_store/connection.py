"""From a URL to a client: the forms that redis_url may have, and the settings that every client gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import FullJitterBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, TimeoutError  # noqa: A004

from shared_store.sockets import (
    PlainConnection,
    SentinelConnection,
    SentinelTlsConnection,
    SocketConnection,
    TlsConnection,
)

Topology = Literal["standalone", "sentinel", "cluster"]
Client = Redis | RedisCluster
T = TypeVar("T")

HEALTH_CHECK_INTERVAL = 15  # seconds of silence after which a connection is tried before it is used
RETRIES = 3  # of idempotent calls, within the store's own bound of time
BACKOFF_BASE, BACKOFF_CAP = 0.05, 0.5  # seconds
SPARE = 8  # connections over those that calls use: for pub/sub, and for a Cluster client's own questions


class StoreUrlError(ValueError):
    """redis_url can't be read; the message never holds the password."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where the store is, parsed from `redis_url`."""

    topology: Topology
    tls: bool
    nodes: tuple[tuple[str, int], ...]
    socket_path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    master_name: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Read `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://` (and `rediss+…`).

        `http://` and a bare `host[:port]` are read as `redis://`, as the Rust broker does. Several addresses are
        separated by commas; a Sentinel's path is `/<master name>[/<database>]`.

        Raises:
            StoreUrlError: it is none of these.
        """
        if "://" not in text:
            text = f"redis://{text}"
        try:
            parts = urlsplit(text)
        except ValueError:
            # The reason holds parts of the URL, and a password may be among them.
            raise StoreUrlError("redis_url can't be read as a URL") from None
        scheme = "redis" if parts.scheme == "http" else parts.scheme
        if scheme == "unix":
            return cls._unix(parts)
        match = re.fullmatch(r"redis(s?)(?:\+(sentinel|cluster))?", scheme)
        if match is None:
            raise StoreUrlError(
                "redis_url has to begin with redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// "
                "or one of the last two with rediss"
            )
        topology: Topology = match[2] or "standalone"  # type: ignore[assignment]  # the pattern allows no other
        return cls._tcp(parts, topology=topology, tls=bool(match[1]))

    @classmethod
    def _unix(cls, parts: SplitResult) -> StoreUrl:
        options = parse_qs(parts.query)
        username, password = _credentials(parts.netloc)
        if not parts.path.strip("/") or parts.netloc.rpartition("@")[2]:
            raise StoreUrlError("redis_url with unix:// needs the path of a socket: unix:///run/redis/redis.sock")
        return cls(
            topology="standalone",
            tls=False,
            nodes=(),
            socket_path=unquote(parts.path),
            database=_number(options.get("db", ["0"])[0], "database"),
            username=username,
            password=password,
        )

    @classmethod
    def _tcp(cls, parts: SplitResult, *, topology: Topology, tls: bool) -> StoreUrl:
        username, password = _credentials(parts.netloc)
        default_port = 26379 if topology == "sentinel" else 6379
        hosts = parts.netloc.rpartition("@")[2]
        nodes = tuple(_address(host, default_port) for host in hosts.split(","))
        path = [unquote(part) for part in parts.path.strip("/").split("/") if part]
        master_name = path.pop(0) if topology == "sentinel" and path else None
        if topology == "sentinel" and master_name is None:
            raise StoreUrlError(
                "redis_url with sentinels needs the master's name: redis+sentinel://host:26379/mymaster"
            )
        if topology == "standalone" and len(nodes) > 1:
            raise StoreUrlError("redis_url names several addresses: use redis+sentinel:// or redis+cluster://")
        options = parse_qs(parts.query)
        database = _number(path.pop(0) if path else options.get("db", ["0"])[0], "database")
        if path or (topology == "cluster" and database):
            raise StoreUrlError("redis_url has more after the address than a database number")
        return cls(
            topology=topology,
            tls=tls,
            nodes=nodes,
            database=database,
            username=username,
            password=password,
            master_name=master_name,
            sentinel_username=options.get("sentinel_username", [None])[0],
            sentinel_password=options.get("sentinel_password", [None])[0],
        )

    def __str__(self) -> str:
        """Tell where the store is, without credentials: fit for logs and for people."""
        if self.socket_path is not None:
            return f"unix://{self.socket_path}"
        scheme = ("rediss" if self.tls else "redis") + ("" if self.topology == "standalone" else f"+{self.topology}")
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}://{nodes}" + (f"/{self.master_name}" if self.master_name else "")


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How to connect: seconds, connections, files in PEM; and on how many replicas a durable write has to be."""

    timeout: float = 5.0
    max_connections: int = 50
    wait_replicas: int = 0
    wait_timeout: float = 1.0
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    client_name: str | None = None


def open_client(url: StoreUrl, options: ConnectionOptions, *, retries: int, timeout: float | None = None) -> Client:
    """Make a client. It connects when it is first used.

    Args:
        url: where to.
        options: how.
        retries: how often a command is sent again when its reply is lost; 0 for what must not be sent twice.
        timeout: seconds to wait for a reply, where it differs from `options.timeout`.
    """
    settings: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "protocol": 2,
        "driver_info": None,  # spares two commands a connection, and the right to send them
        "client_name": options.client_name,
        "health_check_interval": HEALTH_CHECK_INTERVAL,
        "socket_timeout": timeout or options.timeout,
        "retry": _Retry(retries),
    }
    if url.topology == "cluster":
        return _cluster(url, options, settings)
    if url.topology == "sentinel":
        return _sentinel(url, options, settings)
    settings |= {"max_connections": options.max_connections + SPARE, "db": url.database}
    if url.socket_path is not None:
        return Redis.from_pool(ConnectionPool(connection_class=SocketConnection, path=url.socket_path, **settings))
    [(host, port)] = url.nodes
    pool = ConnectionPool(
        connection_class=TlsConnection if url.tls else PlainConnection,
        host=host,
        port=port,
        socket_connect_timeout=options.timeout,
        **settings,
        **_tls(url, options),
    )
    return Redis.from_pool(pool)


def _sentinel(url: StoreUrl, options: ConnectionOptions, settings: dict[str, Any]) -> Client:
    connecting = {"socket_connect_timeout": options.timeout, "socket_timeout": options.timeout}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        list(url.nodes),
        sentinel_kwargs={
            "username": url.sentinel_username,
            "password": url.sentinel_password,
            "protocol": 2,
            "driver_info": None,
            "ssl": url.tls,
            "retry": _Retry(0),
            **connecting,
            **_tls(url, options),
        },
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        url.master_name,
        sentinel,
        connection_class=SentinelTlsConnection if url.tls else SentinelConnection,
        db=url.database,
        max_connections=options.max_connections + SPARE,
        socket_connect_timeout=options.timeout,
        **settings,
        **_tls(url, options),
    )
    return Redis.from_pool(pool)


def _cluster(url: StoreUrl, options: ConnectionOptions, settings: dict[str, Any]) -> Client:
    client = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in url.nodes],
        ssl=url.tls,
        # Twice, per node: after a change of topology old connections are counted until they are closed.
        max_connections=2 * options.max_connections + SPARE,
        socket_connect_timeout=options.timeout,
        **settings,
        **_tls(url, options),
    )
    connection_class = TlsConnection if url.tls else PlainConnection
    client.nodes_manager.connection_kwargs["connection_class"] = connection_class
    for node in client.nodes_manager.startup_nodes.values():
        node.connection_class = connection_class
    return client


async def close_client(client: Client) -> None:
    """Close every connection of a client, those to sentinels and to nodes of an older topology among them."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        # A client that has just lost a node takes itself for closed and leaves the other nodes' connections open.
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")
        return
    await client.connection_pool.disconnect()
    if isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _tls(url: StoreUrl, options: ConnectionOptions) -> dict[str, Any]:
    if not url.tls:
        return {}
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": str(options.ca_file) if options.ca_file else None,
        "ssl_certfile": str(options.client_cert) if options.client_cert else None,
        "ssl_keyfile": str(options.client_key) if options.client_key else None,
    }


class _Retry(Retry):
    """Retries lost connections and replies, but never a refused password: asking again does not make it right."""

    def __init__(self, retries: int) -> None:
        super().__init__(
            FullJitterBackoff(cap=BACKOFF_CAP, base=BACKOFF_BASE), retries, (ConnectionError, TimeoutError)
        )

    async def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        def worth_it(error: Exception) -> bool:
            refused = isinstance(error, AuthenticationError | AuthorizationError)
            return not refused and (is_retryable is None or is_retryable(error))

        return await super().call_with_retry(do, fail, worth_it, with_failure_count)


def _credentials(netloc: str) -> tuple[str | None, str | None]:
    credentials = netloc.rpartition("@")[0]
    if not credentials:
        return None, None
    username, colon, password = credentials.partition(":")
    if not colon:
        raise StoreUrlError("redis_url has a user without a password: write user:password@ or :password@")
    return unquote(username) or None, unquote(password)


def _address(text: str, default_port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", text)
    if match is None:
        raise StoreUrlError("redis_url has an address that is not host, host:port or [IPv6]:port")
    port = int(match[3]) if match[3] else default_port
    if not 0 < port < 65536:
        raise StoreUrlError("redis_url has a port that is not between 1 and 65535")
    return match[1] or match[2], port


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise StoreUrlError(f"redis_url has a {what} that is not a number")
    return int(text)

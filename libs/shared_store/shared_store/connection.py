"""From a URL to a client, with the settings that every client gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import FullJitterBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, TimeoutError  # noqa: A004

from shared_store.credentials import Credentials
from shared_store.sentinels import Sentinels
from shared_store.sockets import (
    PlainConnection,
    SentinelConnection,
    SentinelTlsConnection,
    SocketConnection,
    TlsConnection,
)
from shared_store.store_url import Address, StoreUrl
from shared_store.tls import TLS_VERSIONS, TlsVersion
from shared_store.topology import Topology

Client = Redis | RedisCluster

HEALTH_CHECK_INTERVAL = 15  # seconds of silence after which a connection is tried before it is used
RETRIES = 3  # of idempotent calls, within the store's own bound of time
BACKOFF_BASE, BACKOFF_CAP = 0.05, 0.5  # seconds
SPARE = 8  # connections over those that calls use: for pub/sub, and for a Cluster client's own questions


class ConnectionSettings(Protocol):
    """What every service reads about Redis, as service_kit's CommonSettings has it."""

    @property
    def redis_timeout(self) -> int: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_max_connections(self) -> int: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_ca_file(self) -> Path | None: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_client_cert(self) -> Path | None: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_client_key(self) -> Path | None: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_wait_replicas(self) -> int: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_wait_timeout(self) -> int: ...  # noqa: D102  declared, with its help, in service_kit
    @property
    def redis_tls_min(self) -> TlsVersion: ...  # noqa: D102  declared, with its help, in service_kit
    def file_of(self, setting: str) -> Path | None:
        """The file that a setting's value was read from."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How to connect: seconds, connections, files in PEM; on how many replicas a durable write has to be.

    `url_file` is where redis_url was read from, if it was: user and password are read there again for each new
    connection, so that they can be changed without a restart. Certificates and keys are as well.
    """

    timeout: float = 5.0
    max_connections: int = 50
    wait_replicas: int = 0
    wait_timeout: float = 1.0
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    client_name: str | None = None
    tls_min: TlsVersion = "1.2"
    url_file: Path | None = None

    @classmethod
    def of(cls, settings: ConnectionSettings, *, client_name: str) -> ConnectionOptions:
        """Say how a service connects."""
        return cls(
            timeout=settings.redis_timeout,
            max_connections=settings.redis_max_connections,
            ca_file=settings.redis_ca_file,
            client_cert=settings.redis_client_cert,
            client_key=settings.redis_client_key,
            client_name=client_name,
            wait_replicas=settings.redis_wait_replicas,
            wait_timeout=settings.redis_wait_timeout,
            tls_min=settings.redis_tls_min,
            url_file=settings.file_of("redis_url"),
        )


def open_client(url: StoreUrl, options: ConnectionOptions, *, retries: int, timeout: float | None = None) -> Client:
    """Make a client. It connects when it is first used.

    Args:
        url: where to.
        options: how.
        retries: how often a command is sent again when its reply is lost; 0 for what must not be sent twice.
        timeout: seconds to wait for a reply, where it differs from `options.timeout`.
    """
    credentials = Credentials(url, options.url_file)
    settings: dict[str, Any] = {
        "credential_provider": credentials,
        "protocol": 2,
        "driver_info": None,  # spares two commands a connection, and the right to send them
        "client_name": options.client_name,
        "health_check_interval": HEALTH_CHECK_INTERVAL,
        "socket_timeout": timeout or options.timeout,
        "retry": _Retry(retries, credentials),
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
    credentials = Credentials(url, options.url_file, for_sentinels=True)
    sentinel = Sentinels(  # type: ignore[no-untyped-call]
        list(url.nodes),
        sentinel_kwargs={
            "credential_provider": credentials,
            "protocol": 2,
            "driver_info": None,
            "ssl": url.tls,
            "retry": _Retry(0, credentials),
            **connecting,
            **_tls(url, options),
        },
    )
    for guard in sentinel.sentinels:
        guard.connection_pool.connection_class = TlsConnection if url.tls else PlainConnection
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
        startup_nodes=[ClusterNode(*_as_told(address)) for address in url.nodes],
        ssl=url.tls,
        # Twice, per node: after a change of topology old connections are counted until they are closed.
        max_connections=2 * options.max_connections + SPARE,
        # After some redirections redis-py would close all connections, under the hands of those who use them, to learn
        # the topology anew; each redirection tells by itself where its slot is.
        reinitialize_steps=0,
        socket_connect_timeout=options.timeout,
        **settings,
        **_tls(url, options),
    )
    connection_class = TlsConnection if url.tls else PlainConnection
    client.connection_kwargs["connection_class"] = connection_class
    for node in client.startup_nodes:
        node.connection_class = connection_class
    client.nodes_manager = Topology(
        client.startup_nodes,
        client.connection_kwargs,
        address_remap=lambda address: _as_told(url.reached_at(address)),
        event_dispatcher=client.nodes_manager._event_dispatcher,  # noqa: SLF001 - by which its pub/sub hears of changes
    )
    return client


def _as_told(address: Address) -> Address:
    """Spell "localhost" as redis-py does not know it: it would take 127.0.0.1, for which no certificate may be."""
    host, port = address
    return ("Localhost" if host == "localhost" else host), port


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
        "ssl_min_version": TLS_VERSIONS[options.tls_min],
    }


class _Retry(Retry):
    """Retries lost connections and replies, but a refused password only where another one has come since."""

    def __init__(self, retries: int, credentials: Credentials) -> None:
        super().__init__(
            FullJitterBackoff(cap=BACKOFF_CAP, base=BACKOFF_BASE), retries, (ConnectionError, TimeoutError)
        )
        self._credentials = credentials

    async def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        def worth_it(error: Exception) -> bool:
            refused = isinstance(error, AuthenticationError | AuthorizationError)
            if refused and not self._credentials.changed():
                return False
            return is_retryable is None or is_retryable(error)

        return await super().call_with_retry(do, fail, worth_it, with_failure_count)

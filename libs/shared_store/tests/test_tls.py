"""TLS with wrong certificates, each told as what it is, and the names that servers are asked for (SNI)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreRefused, StoreUnavailable
from shared_store.store import Store
from shared_store.testing.deployments import MASTER_NAME, Certificates, Validity, tls_server
from shared_store.testing.servers import RedisServer, free_port

NOW = datetime.now(UTC)
PAST: Validity = (NOW - timedelta(days=30), NOW - timedelta(days=1))
FUTURE: Validity = (NOW + timedelta(days=1), NOW + timedelta(days=30))


def forms(server: RedisServer) -> list[str]:
    """Name the same server in each form; that it is no Sentinel and no Cluster would be seen later than its TLS."""
    scheme, _, address = server.url.partition("://")
    return [server.url, f"{scheme}+sentinel://{address}/{MASTER_NAME}", f"{scheme}+cluster://{address}"]


async def is_told(url: str, options: ConnectionOptions, *words: str) -> None:
    async with Store(url, options) as store:
        with pytest.raises((StoreRefused, StoreUnavailable)) as told:
            await store.ping()
    assert [word for word in words if word not in str(told.value)] == [], str(told.value)


async def test_authority_that_is_not_ours_is_refused_and_told() -> None:
    with tls_server("redis7") as server, tls_server("redis7") as other:
        for url in forms(server):
            for ca_file in (None, other.options.ca_file):
                options = ConnectionOptions(timeout=1, ca_file=ca_file)
                await is_told(url, options, "TLS to Redis failed", "certificate", "into redis_ca_file")


async def test_certificate_of_another_name_is_refused_and_told() -> None:
    with tls_server("redis7", "other.example") as server:
        for url in forms(server):
            await is_told(url, server.options, "IP address mismatch", "redis_url")
        named = server.url.replace("127.0.0.1", "localhost")
        await is_told(named, server.options, "Hostname mismatch", "'localhost'", "redis_url")


@pytest.mark.parametrize(
    ("time", "told"), [(PAST, ("has expired", "renew")), (FUTURE, ("not yet valid", "this machine's clock"))]
)
async def test_certificate_out_of_its_time_is_refused_and_told(time: Validity, told: tuple[str, ...]) -> None:
    with tls_server("redis7", server_valid=time) as server:
        for url in forms(server):
            await is_told(url, server.options, "TLS to Redis failed", *told)


async def test_client_certificate_is_shown_where_the_server_asks_for_one() -> None:
    with tls_server("redis7", client_certificates=True) as server:
        async with Store(server.url, server.options) as store:
            await store.ping()


async def test_client_certificate_that_the_server_does_not_accept_is_told() -> None:
    """Whether the server's reason arrives is a matter of luck: the file and its dates are told in any case."""
    with tls_server("redis7", client_certificates=True, client_valid=PAST) as server:
        # Longer than all tries take on a slow machine: what is told is the last one's end, not the end of patience.
        bare = ConnectionOptions(timeout=30, ca_file=server.options.ca_file, client_name="auth-api")
        expired = replace(server.options, timeout=30, client_name="auth-api")
        await is_told(server.url, bare, "redis_client_cert")
        await is_told(server.url, expired, "redis_client_cert")


async def test_files_that_are_no_certificate_or_do_not_belong_together_are_told() -> None:
    with tls_server("redis7") as server, tls_server("redis7") as other:
        strangers_key = replace(server.options, client_key=other.options.client_key)
        await is_told(server.url, strangers_key, "redis_client_key is not the key of redis_client_cert")
        await is_told(server.url, replace(server.options, ca_file=server.options.client_key), "redis_ca_file holds no")


@pytest.mark.parametrize("kind", ["valkey9", "redis7", "redis6"])
async def test_server_without_tls_is_told_with_the_scheme_that_it_needs(kind: str) -> None:
    with RedisServer(kind, port=free_port()) as server:
        for url in forms(server):
            wanted = url.partition("://")[0]
            await is_told(url.replace("redis", "rediss", 1), ConnectionOptions(timeout=0.5), f"begin with {wanted}://")


@pytest.mark.parametrize("options", [ConnectionOptions(timeout=2), ConnectionOptions(timeout=2, client_name="mailer")])
async def test_server_with_tls_alone_is_told_with_the_scheme_that_it_needs(options: ConnectionOptions) -> None:
    with tls_server("redis7") as server:
        for url in forms(server):
            wanted = url.partition("://")[0]
            await is_told(url.replace("rediss", "redis", 1), options, f"begin with {wanted}://")


async def test_tls_in_front_of_a_server_is_told_with_the_scheme_that_it_needs(made: Certificates) -> None:
    with RedisServer("redis7") as server:
        async with front(made, server.socket, free_port()) as entrance:
            await is_told(f"redis://127.0.0.1:{entrance.port}", ConnectionOptions(timeout=2), "begin with rediss://")


@pytest.mark.parametrize("answer", [b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_answer_that_is_not_of_redis_is_told_with_the_scheme_that_it_may_need(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for url in (f"redis://{address}", f"redis+sentinel://{address}/{MASTER_NAME}", f"redis+cluster://{address}"):
            wanted = url.partition("://")[0].replace("redis", "rediss")
            await is_told(url, ConnectionOptions(timeout=2), f"begin with {wanted}://")


async def test_server_that_has_answered_once_is_not_suspected_of_another_scheme() -> None:
    with tls_server("redis7") as server:
        async with Store(server.url, replace(server.options, timeout=0.5)) as store:
            await store.ping()
            server.pause()
            with pytest.raises(StoreUnavailable) as told:
                await store.ping()
            server.resume()
    assert "begin with" not in str(told.value)


async def test_outage_tells_what_is_wrong_now_and_not_what_was_wrong_when_it_began() -> None:
    port = free_port()
    async with Store(f"rediss://127.0.0.1:{port}", ConnectionOptions(timeout=1)) as store:
        with pytest.raises(StoreUnavailable, match="can't be reached"):
            await store.ping()
        with RedisServer("valkey9", port=port):
            async with asyncio.timeout(30):
                told = ""
                while "begin with redis://" not in told:
                    with pytest.raises(StoreUnavailable) as away:
                        await store.ping()
                    told = str(away.value)
                    await asyncio.sleep(0.05)


@pytest.mark.setting("redis_tls_min")
async def test_server_that_speaks_only_older_versions_of_tls_is_refused_and_told() -> None:
    with tls_server("redis7", config={"tls-protocols": '"TLSv1.2"'}) as server:
        async with Store(server.url, server.options) as store:
            await store.ping()
        await is_told(server.url, replace(server.options, tls_min="1.3"), "TLS to Redis failed", "redis_tls_min")


# --- the name that a server is asked for (RFC 6066, section 3) ---


@dataclass(slots=True)
class Front:
    """Ends TLS in front of a server, as a managed Redis' entrance does, and keeps the names that clients asked for."""

    port: int
    names: set[str | None]


@contextlib.asynccontextmanager
async def front(made: Certificates, behind: Path, port: int) -> AsyncIterator[Front]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.server, made.server_key)
    names: set[str | None] = set()
    context.sni_callback = lambda _, name, __: names.add(name)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(behind)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield Front(port, names)
    finally:
        server.close()


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path, "localhost")


async def test_server_is_asked_for_by_its_name(made: Certificates) -> None:
    with RedisServer("redis7") as redis:
        async with (
            front(made, redis.socket, free_port()) as entrance,
            Store(f"rediss://localhost:{entrance.port}", ConnectionOptions(ca_file=made.ca)) as store,
        ):
            await store.ping()
            assert entrance.names == {"localhost"}


async def test_sentinels_and_the_master_that_they_name_are_asked_for_by_their_names(made: Certificates) -> None:
    ports = free_port(), free_port()
    watching = {
        "sentinel resolve-hostnames": "yes",
        "sentinel announce-hostnames": "yes",
        "sentinel monitor": f"{MASTER_NAME} localhost {ports[0]} 1",
        "tls-replication": "yes",
        **made.config,
    }
    with RedisServer("redis7") as master:
        async with front(made, master.socket, ports[0]) as to_master:
            guard = RedisServer("redis7", port=free_port(), config=watching, sentinel=True)
            await asyncio.to_thread(guard.start)
            try:
                async with front(made, guard.socket, ports[1]) as to_guard:
                    url = f"rediss+sentinel://localhost:{ports[1]}/{MASTER_NAME}"
                    async with asyncio.timeout(30):
                        while not to_master.names:  # the Sentinel's own connections, which name nobody
                            await asyncio.sleep(0.01)
                    to_master.names.clear()
                    async with Store(url, ConnectionOptions(ca_file=made.ca)) as store:
                        await store.ping()
                    assert to_guard.names == {"localhost"}
                    assert "localhost" in to_master.names
            finally:
                await asyncio.to_thread(guard.__exit__)


async def test_nodes_of_a_cluster_are_asked_for_by_the_names_that_they_announce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, name, resolve = free_port(), "node-1.redis.example", socket.getaddrinfo

    def resolve_ours(host: str, *other: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == name else host, *other, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_ours)
    announced = {
        "cluster-enabled": "yes",
        "cluster-announce-hostname": name,
        "cluster-announce-port": str(port),
        "cluster-preferred-endpoint-type": "hostname",
    }
    made = Certificates.make(tmp_path, name, "127.0.0.1")
    with RedisServer("redis7", port=free_port(), config=announced) as node:
        node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        async with (
            front(made, node.socket, port) as entrance,
            Store(f"rediss+cluster://127.0.0.1:{port}", ConnectionOptions(ca_file=made.ca)) as store,
        ):
            async with asyncio.timeout(30):
                while True:  # a new Cluster is down for two seconds
                    with contextlib.suppress(StoreUnavailable):
                        await store.ping()
                        break
                    await asyncio.sleep(0.05)
            assert entrance.names == {None, name}  # an address is no name: the first has none to ask for

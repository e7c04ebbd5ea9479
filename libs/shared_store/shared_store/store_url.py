"""The forms that redis_url may have; docs/redis.md shows one of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

Topology = Literal["standalone", "sentinel", "cluster"]
Address = tuple[str, int]

# What may stand behind the ?. That of redis:// and unix:// is passed over where other programs may know it.
_OPTIONS: dict[Topology, set[str]] = {
    "standalone": {"db"},
    "sentinel": {"db", "sentinel_username", "sentinel_password"},
    "cluster": {"db", "remap"},
}


class StoreUrlError(ValueError):
    """redis_url can't be read; the message never holds the password."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """Where the store is, parsed from `redis_url`."""

    topology: Topology
    tls: bool
    nodes: tuple[Address, ...]
    socket_path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    master_name: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    remap: tuple[tuple[str, str], ...] = ()  # from an address or host that a Cluster names to where it is reached

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Read `redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://` (and `rediss+…`).

        `http://` and a bare `host[:port]` are read as `redis://`, as the Rust broker does. Several addresses are
        separated by commas; a Sentinel's path is `/<master name>[/<database>]`. `remap=<from>/<to>`, for a Cluster
        behind NAT and as often as needed, says where an address that its nodes tell, or a host of any port, is reached.

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
        options = _options(parts.query, "standalone")
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
        if "@" in parts.path + parts.fragment:
            raise StoreUrlError(
                "redis_url has an @ after its address: in a password write / as %2F, # as %23, ? as %3F and @ as %40"
            )
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
        options = _options(parts.query, topology)
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
            sentinel_username=options.get("sentinel_username", [""])[0] or None,
            sentinel_password=options.get("sentinel_password", [""])[0] or None,
            remap=tuple(_remap(entry) for entry in options.get("remap", [])),
        )

    @property
    def scheme(self) -> str:
        """What it begins with."""
        if self.socket_path is not None:
            return "unix"
        return ("rediss" if self.tls else "redis") + ("" if self.topology == "standalone" else f"+{self.topology}")

    @property
    def user(self) -> str:
        """Who Redis takes us for."""
        return self.username or "default"

    def reached_at(self, address: Address) -> Address:
        """Give where to connect for an address that a Cluster's node tells."""
        host, port = address
        rules = dict(self.remap)
        if exact := rules.get(f"{host}:{port}"):
            return _address(exact, port)
        return _address(rules[host], port) if host in rules else address

    def __str__(self) -> str:
        """Tell where the store is, without credentials: fit for logs and for people."""
        if self.socket_path is not None:
            return f"{self.scheme}://{self.socket_path}"
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{self.scheme}://{nodes}" + (f"/{self.master_name}" if self.master_name else "")


def unusable_url(text: str) -> Iterator[tuple[str, str]]:
    """Pair `redis_url` with what is wrong with it, for a service's settings; nothing where it can be read."""
    try:
        StoreUrl.parse(text)
    except StoreUrlError as error:
        yield "redis_url", f"can't be used: {error}"


def _credentials(netloc: str) -> tuple[str | None, str | None]:
    credentials = netloc.rpartition("@")[0]
    if not credentials:
        return None, None
    username, colon, password = credentials.partition(":")
    if not colon:
        raise StoreUrlError("redis_url has a user without a password: write user:password@ or :password@")
    return unquote(username) or None, unquote(password)


def _options(query: str, topology: Topology) -> dict[str, list[str]]:
    """Read what stands behind the ?. A + is a +, as it is before it: passwords have some."""
    options = parse_qs(query.replace("+", "%2B"), keep_blank_values=True)
    known = _OPTIONS[topology]
    strange = options.keys() - known
    if topology == "standalone":
        strange &= set().union(*_OPTIONS.values())
    if strange:  # not told: it may be the end of a password
        raise StoreUrlError(
            f"redis_url has an option that is none here, where there are {' and '.join(sorted(known))}: look at its "
            "spelling; in a password write & as %26"
        )
    return options


def _address(text: str, default_port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", text)
    if match is None:
        raise StoreUrlError("redis_url has an address that is not host, host:port or [IPv6]:port")
    port = int(match[3]) if match[3] else default_port
    if not 0 < port < 65536:
        raise StoreUrlError("redis_url has a port that is not between 1 and 65535")
    return match[1] or match[2], port


def _remap(text: str) -> tuple[str, str]:
    told, _, reached = text.partition("/")
    try:
        _address(told, 6379)
        _address(reached, 6379)
    except StoreUrlError:
        raise StoreUrlError(
            "redis_url has a remap that is not <address or host told>/<address or host to connect to>: "
            "remap=10.0.0.1:6379/redis.example.com:7001"
        ) from None
    return told, reached


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise StoreUrlError(f"redis_url has a {what} that is not a number")
    return int(text)

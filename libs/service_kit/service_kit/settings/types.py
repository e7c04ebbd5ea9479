"""The kinds of value a setting may have: their parsers, their checks, and what to write where one is wrong.

Every kind carries an `Advice`, which ends the error message, and the markers that say how its text form is read.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict


@dataclass(frozen=True, slots=True)
class Advice:
    """Marker: what to write, as the end of "Write …"."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """Marker on a list: its text form is separated by commas, with `words` also by white space."""

    words: bool = True
    from_files: bool = False  # an entry "@path" stands for the lines of that file


@dataclass(frozen=True, slots=True)
class HostPort:
    """A server to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TransportLimit:
    """What bounds one transport: `count` mails in `seconds`, or, where those are 0, at the same time."""

    transport: str
    count: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.transport}:{self.count}" + (f"/{self.seconds}s" if self.seconds else "")


class SecretUrl(SecretStr):
    """A URL whose password never shows."""

    def _display(self) -> str:
        return mask_url(self.get_secret_value())


def mask_url(url: str) -> str:
    """The URL without its password; nothing of it where it cannot be read."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***" if "@" in url else url
    authority, slash, path = rest.partition("/")
    if "@" in path:  # a password with an unescaped slash: where it ends is anyone's guess
        return f"{scheme}://***"
    userinfo, at, host = authority.rpartition("@")
    user = userinfo.partition(":")[0]
    shown = f"{user}:***@{host}" if at else host
    return f"{scheme}://{shown}{slash}{path}".partition("?")[0]


def _number(least: int, most: int) -> object:
    return Field(ge=least, le=most)


def _ip_literal(text: str) -> str:
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        raise ValueError("is not an IP address") from None


_MAPPED = IPv6Network("::ffff:0:0/96")  # an IPv4 client of an IPv6 socket counts as an IPv4 client


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        network = ip_network(str(value), strict=False)  # 10.1.2.3/8 means 10.0.0.0/8, as it always did
    except ValueError:
        raise ValueError("is not an IP address or network") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _host_port(value: object, default_port: int | None) -> HostPort:
    if isinstance(value, HostPort):
        return value
    if not isinstance(value, str):
        raise ValueError("is not text")  # noqa: TRY004 - pydantic turns only ValueError into a finding
    try:
        return HostPort(IPv6Address(value).compressed, default_port or 0)
    except ValueError:
        pass
    parts = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:@/\[\]]+)(?::([0-9]{1,5}))?", value)
    port = int(parts[2] or default_port or 0) if parts else 0
    if not parts or not 0 < port < 65536:
        raise ValueError("is not a host and a port")
    return HostPort(parts[1].strip("[]"), port)


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str | HostPort) else value


_TRANSPORT_LIMIT = re.compile(r"([a-z]+):([0-9]{1,6})(?:/([0-9]{0,4})(s|m|min|h))?")


def _transport_limit(value: object) -> TransportLimit:
    if isinstance(value, TransportLimit):
        return value
    parts = _TRANSPORT_LIMIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if parts is None or int(parts[2]) == 0 or int(parts[3] or 1) == 0:
        raise ValueError("is not a transport and its bound")
    transport, count, number, unit = parts.groups()
    if transport not in get_args(Transport):
        raise ValueError(f"names no transport; there are {', '.join(get_args(Transport))}")
    unit_seconds = {"s": 1, "m": 60, "min": 60, "h": 3600}.get(unit, 0)
    return TransportLimit(transport, int(count), int(number or 1) * unit_seconds)


def _webhook_secret(secret: SecretStr) -> SecretStr:
    try:
        key = b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) < 24:
        raise ValueError("is not base64 of 24 octets or more")
    return secret


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if url.scheme not in ("http", "https") or not url.hostname or re.search(r"[\s\\]", text):
        raise ValueError("is not an http or https URL")
    if "@" in url.netloc:
        raise ValueError("must not hold a user or password")
    return url


def _origin(text: str) -> str:
    url = _split(text)
    if not text.isascii():
        raise ValueError("is not written as browsers send it, with xn-- for other letters than those of ASCII")
    origin = urlunsplit((url.scheme, url.netloc.lower(), "", "", ""))
    if url.query or url.fragment or url.path not in ("", "/"):
        raise ValueError(f"has a path, query or fragment, which an origin has not; you may mean {origin}")
    if text != origin:
        raise ValueError(f"is not written as an origin is; you may mean {origin}")
    default = {"http": 80, "https": 443}[url.scheme]
    if url.port == default:
        raise ValueError(f"names the default port; write it as browsers do, without :{default}")
    return origin


def _http_url(text: str) -> str:
    _split(text)
    return text.rstrip("/")


def _mail_address(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;]+@[^\s@<>,;]+", text):
        raise ValueError("is not an e-mail address")
    return text


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a line break or another control character")
    return text


def _domain(text: str) -> str:
    domain = text.strip().rstrip(".").lower()
    if not domain or re.search(r"[\s@/:*]", domain):
        raise ValueError("is not a domain")
    return domain


def _existing_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_REDIS = re.compile(r"(?:rediss?(?:\+(?:sentinel|cluster))?|unix)://\S+")


def _redis_url(url: SecretUrl) -> SecretUrl:
    """`http://` and a bare `host:port` are the existing broker's ways to say redis://."""
    text = url.get_secret_value().strip()
    if text.startswith("http://"):
        text = "redis://" + text.removeprefix("http://")
    elif "://" not in text:
        text = "redis://" + text
    if not _REDIS.fullmatch(text):
        raise ValueError("is not the URL of a Redis server")
    return SecretUrl(text)


def _sealing_key(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 32:
        raise ValueError("is too short to be a random key")
    return secret


def _choice(*names: str) -> Advice:
    return Advice(" or ".join(f'"{name}"' for name in names))


SECONDS = Advice("whole seconds, for example 600")
MOST_SECONDS = 10 * 365 * 86400

Text = Annotated[str, AfterValidator(_one_line), Advice("text in quotes")]
Switch = Annotated[bool, Strict(), Advice("true or false")]
Count = Annotated[int, Strict(), _number(1, 10_000_000), Advice("a whole number from 1 to 10000000")]
Concurrency = Annotated[int, Strict(), _number(1, 1000), Advice("a whole number from 1 to 1000")]
# More would be sent too late: a login lives for 15 minutes.
QueueLength = Annotated[int, Strict(), _number(1, 1_000_000), Advice("a whole number from 1 to 1000000")]
Shards = Annotated[int, Strict(), _number(1, 64), Advice("a whole number from 1 to 64")]
Replicas = Annotated[int, Strict(), _number(0, 10), Advice("a whole number from 0 to 10")]
Port = Annotated[int, Strict(), _number(1, 65535), Advice("a port from 1 to 65535")]
PortOrOff = Annotated[int, Strict(), _number(0, 65535), Advice("a port from 1 to 65535, or 0 to have none")]
MaxAge = Annotated[int, Strict(), _number(0, MOST_SECONDS), SECONDS]
Lifetime = Annotated[int, Strict(), _number(1, MOST_SECONDS), SECONDS]
Timeout = Annotated[int, Strict(), _number(1, 300), Advice("whole seconds from 1 to 300")]
Wait = Annotated[int, Strict(), _number(0, 300), Advice("whole seconds from 0 to 300")]
CookieLifetime = Annotated[
    int,
    Strict(),
    _number(-1, MOST_SECONDS),
    Advice("seconds, 0 for a cookie that ends with the browser, or -1 for no cookie"),
]
IpLiteral = Annotated[str, AfterValidator(_ip_literal), Advice("an IPv4 or IPv6 address such as 127.0.0.1 or ::1")]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], Items(), Advice('a list such as ["10.0.0.0/8", "::1"]')]
PublicUrl = Annotated[str, AfterValidator(_origin), Advice("scheme and host only, like https://login.example.com")]
Origin = Annotated[str, AfterValidator(_origin)]
Origins = Annotated[tuple[Origin, ...], Items(from_files=True), Advice('a list such as ["https://example.com"]')]
Domain = Annotated[str, AfterValidator(_domain), Advice("a domain such as example.com")]
Selector = Annotated[str, AfterValidator(_domain), Advice("a name below the domain, such as login1")]
Domains = Annotated[tuple[Domain, ...], Items(from_files=True), Advice('a list such as ["example.com"]')]
HttpUrl = Annotated[str, AfterValidator(_http_url), Advice("an http or https URL")]
MailAddress = Annotated[str, AfterValidator(_mail_address), Advice("an address such as login@example.com")]
MailAddresses = Annotated[tuple[MailAddress, ...], Items(), Advice('a list such as ["monitor@example.com"]')]
Paths = Annotated[tuple[str, ...], Items(words=False), Advice("a list of file names")]
Argv = Annotated[tuple[str, ...], Items(words=False), Advice('a list such as ["openssl", "genrsa", "2048"]')]
Limits = Annotated[tuple[str, ...], Items(), Advice('a list such as ["ip:50/s"]')]
SmtpServer = Annotated[HostPort, BeforeValidator(partial(_host_port, default_port=25))]
SmtpServers = Annotated[
    tuple[SmtpServer, ...], BeforeValidator(_one_or_several), Items(),
    Advice('host or host:port, for example "mail:587", or a list of them'),
]  # fmt: skip
Resolver = Annotated[
    HostPort, BeforeValidator(partial(_host_port, default_port=53)), Advice("host:port, for example 9.9.9.9:53")
]
RedisUrl = Annotated[
    SecretUrl,
    AfterValidator(_redis_url),
    Advice("a URL such as redis://localhost:6379/0 (also rediss://, unix://, redis+sentinel://, redis+cluster://)"),
]
ExistingFile = Annotated[Path, AfterValidator(_existing_file), Advice("the name of a file that this service may read")]
Folder = Annotated[Path, Advice("the name of a folder")]
Pem = Annotated[SecretStr, Advice("the PEM text of private keys")]
Secret = Annotated[SecretStr, Advice("text in quotes")]
_RANDOM = Advice("at least 32 random characters, for example from `openssl rand -base64 32`")
SealingKey = Annotated[SecretStr, AfterValidator(_sealing_key), _RANDOM]
SealingKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_sealing_key)], ...], BeforeValidator(_one_or_several), Items(),
    Advice(f"{_RANDOM.text}, or a list of such"),
]  # fmt: skip
Algorithm = Literal["RS256", "EdDSA"]
Algorithms = Annotated[tuple[Algorithm, ...], Field(min_length=1), Items(), Advice('["RS256"], ["EdDSA"] or both')]
ModulusBits = Annotated[Literal[2048, 3072, 4096, 8192], Advice("2048, 3072, 4096 or 8192")]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], BeforeValidator(_lower), _choice("debug", "info", "warning", "error")
]
LogFormat = Annotated[Literal["auto", "json", "console"], _choice("auto", "json", "console")]
TlsVersion = Annotated[Literal["1.2", "1.3"], _choice("1.2", "1.3")]
SmtpSecurity = Annotated[
    Literal["opportunistic", "starttls", "tls", "off"], _choice("opportunistic", "starttls", "tls", "off")
]
Transport = Literal["smtp", "sendmail", "postmark", "mailgun", "sendgrid", "ses", "webhook"]
Transports = Annotated[tuple[Transport, ...], Items(), Advice('a list such as ["smtp", "postmark"]')]
TransportLimits = Annotated[
    tuple[Annotated[TransportLimit, BeforeValidator(_transport_limit)], ...], Items(),
    Advice('a list such as ["smtp:5", "postmark:10/s"]'),
]  # fmt: skip
Region = Annotated[str, Field(pattern=r"^[a-z0-9-]+$"), Advice("an AWS region such as eu-central-1")]
WebhookSecret = Annotated[
    SecretStr,
    AfterValidator(_webhook_secret),
    Advice("base64 of random octets, for example from `openssl rand -base64 32`"),
]

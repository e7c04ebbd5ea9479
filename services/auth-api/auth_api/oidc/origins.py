"""Origins and redirect URIs of relying parties, accepted only where every reader agrees on the host.

Browsers repair what they are given (backslashes, tabs, missing slashes, numbers as hosts, escapes in the
host) and libraries repair it otherwise; so nothing is repaired here: a text is its own serialisation or refused.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from auth_api import domains
from auth_api.errors import InvalidDomainError, InvalidOriginError

MAX_REDIRECT_URI_LENGTH = 2048

_AUTHORITY = re.compile(r"(https?)://([^/?#\\]*)")
_HOST_AND_PORT = re.compile(r"(\[[0-9a-f:]{2,39}\]|[a-z0-9._-]{1,253})(?::([1-9][0-9]{0,4}))?")
# RFC 3986 §3.3 and §3.4: an absolute path and perhaps a query, in ASCII, escapes complete.
_PATH_AND_QUERY = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a site, made by the parsers here; as text, its serialisation (RFC 6454 §6.2)."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        return _serialize(self.scheme, self.host, self.port)


@dataclass(frozen=True, slots=True)
class RedirectUri:
    """Where answers to a relying party go, made by `parse_redirect_uri`; as text, exactly what it sent."""

    uri: str
    origin: Origin

    def __str__(self) -> str:
        return self.uri


def parse_origin(text: str) -> Origin:
    """Read an origin in its own serialisation: no path, no slash at the end, no default port.

    Raises:
        InvalidOriginError: the text is none.
    """
    origin, rest = _split_origin(text)
    if rest:
        raise InvalidOriginError("an origin ends after the host or port")
    return origin


def parse_redirect_uri(text: str) -> RedirectUri:
    """Read an absolute http(s) URI that begins with its own origin, without user, password and fragment.

    Raises:
        InvalidOriginError: it is none; the message says why.
    """
    if len(text) > MAX_REDIRECT_URI_LENGTH:
        raise InvalidOriginError(f"it is longer than {MAX_REDIRECT_URI_LENGTH} characters")
    origin, rest = _split_origin(text)
    if "#" in rest:
        raise InvalidOriginError("it must not have a fragment")
    if not _PATH_AND_QUERY.fullmatch(rest):
        raise InvalidOriginError("after the origin it must be a path and query of RFC 3986, other characters escaped")
    return RedirectUri(text, origin)


def display_origin(origin: Origin) -> str:
    """The origin for people, its host in Unicode where that cannot be taken for another one."""
    host = origin.host if origin.host.startswith("[") else domains.to_display(origin.host)
    return _serialize(origin.scheme, host, origin.port)


def _split_origin(text: str) -> tuple[Origin, str]:
    authority = _AUTHORITY.match(text)
    if not authority:
        raise InvalidOriginError("it must start with http:// or https://")
    scheme, host_and_port = authority[1], authority[2]
    if "@" in host_and_port:
        raise InvalidOriginError("it must not have a user or password")
    parts = _HOST_AND_PORT.fullmatch(host_and_port)
    if not parts:
        raise InvalidOriginError("its host must be in lower-case ASCII (A-labels), its port a number from 1 to 65535")
    port = int(parts[2]) if parts[2] else None
    if port is not None and (port > 65535 or port == _DEFAULT_PORTS[scheme]):
        raise InvalidOriginError("its port must be from 1 to 65535, and left out where it is the default")
    _check_host(parts[1])
    return Origin(scheme, parts[1], port), text[authority.end() :]


def _check_host(host: str) -> None:
    try:
        if host.startswith("["):
            is_canonical = f"[{IPv6Address(host[1:-1])}]" == host
        elif domains.ends_in_a_number(host):
            is_canonical = str(IPv4Address(host)) == host
        else:
            is_canonical = domains.to_ascii(host) == host
    except (AddressValueError, InvalidDomainError) as error:
        raise InvalidOriginError("its host is not valid") from error
    if not is_canonical:
        raise InvalidOriginError("its host is not written in the usual form")


def _serialize(scheme: str, host: str, port: int | None) -> str:
    return f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"

"""Who is asking: the client's IP address behind the operator's own proxies."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

ClientAddress = IPv4Address | IPv6Address
ProxyNetwork = IPv4Network | IPv6Network

MAX_FORWARDED_LENGTH = 8192

_LOOPBACK = IPv4Address("127.0.0.1")
_LONGEST_ADDRESS = 45


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted_proxies: Sequence[ProxyNetwork]
) -> ClientAddress:
    """Walk from the socket's peer through X-Forwarded-For, from right to left, to the first untrusted address.

    `peer` is the socket's IP address, None for a unix socket, which is trusted and counts as loopback.
    `forwarded_for` are the header's lines in order. A header with an entry that is no IP address says
    nothing: it is ignored whole. Where all are trusted, the last of the list is the client. Never raises.
    """
    client: ClientAddress = _parse_ip((peer or "").partition("%")[0]) or _LOOPBACK
    if peer and not _is_trusted(client, trusted_proxies):
        return client
    for client in reversed(_parse_forwarded_for(forwarded_for)):
        if not _is_trusted(client, trusted_proxies):
            break
    return client


def _parse_forwarded_for(lines: Sequence[str]) -> list[ClientAddress]:
    header = ",".join(lines)
    if not header.strip() or len(header) > MAX_FORWARDED_LENGTH:
        return []
    addresses = [_parse_ip(entry.strip()) for entry in header.split(",")]
    known = [address for address in addresses if address is not None]
    return known if len(known) == len(addresses) else []


def _parse_ip(text: str) -> ClientAddress | None:
    """An address in its own family: an IPv4 client that came in by an IPv6 socket is an IPv4 client."""
    if len(text) > _LONGEST_ADDRESS or "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _is_trusted(address: ClientAddress, trusted_proxies: Sequence[ProxyNetwork]) -> bool:
    return any(address in network for network in trusted_proxies)

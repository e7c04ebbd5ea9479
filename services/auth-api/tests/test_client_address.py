from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.client_address import client_address

TRUSTED = tuple(map(ip_network, ("127.0.0.0/8", "::1", "10.0.0.0/8", "2001:db8::/32")))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["203.0.113.9, 198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ("127.0.0.1", ["203.0.113.9", "198.51.100.1", "10.1.1.1"], "198.51.100.1"),
        ("127.0.0.1", ["10.0.0.3, 10.0.0.2 ,10.0.0.1"], "10.0.0.3"),
        ("127.0.0.1", ["junk, 198.51.100.1"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1,"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1:443"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:db8::1]"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.01"], "127.0.0.1"),
        ("127.0.0.1", ["fe80::1%eth0"], "127.0.0.1"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1, " * 1000 + "198.51.100.1"], "127.0.0.1"),
        ("::1", ["2a00::1"], "2a00::1"),
        ("::1", ["2a00::1, 2001:db8::5"], "2a00::1"),
        ("::ffff:127.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("::ffff:192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        (None, ["198.51.100.1"], "198.51.100.1"),
        (None, ["203.0.113.9, 10.0.0.1"], "203.0.113.9"),
        (None, [], "127.0.0.1"),
        ("", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", ["198.51.100.1"], "fe80::1"),
    ],
)
def test_client_is_the_first_untrusted_address_from_the_right(
    peer: str | None, forwarded_for: list[str], client: str
) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == ip_address(client)


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@settings(deadline=None)
@given(st.none() | st.text() | ADDRESSES, st.lists(st.text() | ADDRESSES))
def test_anything_gives_an_address(peer: str | None, forwarded_for: list[str]) -> None:
    assert isinstance(client_address(peer, forwarded_for, TRUSTED), IPv4Address | IPv6Address)


@settings(deadline=None)
@given(ADDRESSES, st.lists(ADDRESSES))
def test_nobody_is_believed_without_trusted_proxies(peer: str, forwarded_for: list[str]) -> None:
    assert client_address(peer, forwarded_for, ()) == client_address(peer, [], ())


@settings(deadline=None)
@given(ADDRESSES, st.lists(ADDRESSES), st.lists(ADDRESSES, max_size=3))
def test_what_a_client_sends_itself_changes_nothing(seen: str, sent: list[str], more: list[str]) -> None:
    proxies = (ip_network("192.0.2.1"),)
    honest = client_address("192.0.2.1", [seen], proxies)
    if honest != ip_address("192.0.2.1"):
        assert client_address("192.0.2.1", [*more, ",".join([*sent, seen])], proxies) == honest


@settings(deadline=None)
@given(ADDRESSES, st.lists(ADDRESSES, min_size=1), st.data())
def test_splitting_the_header_into_lines_changes_nothing(peer: str, entries: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(entries) - 1))
    lines = [", ".join(part) for part in (entries[:cut], entries[cut:]) if part]
    assert client_address(peer, lines, TRUSTED) == client_address(peer, [", ".join(entries)], TRUSTED)

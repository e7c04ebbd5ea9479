from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.addresses import parse_address
from auth_api.errors import InvalidLimitError
from auth_api.limits import (
    LIMIT_KEYS,
    Limit,
    LimitKey,
    limit_key_values,
    parse_limit,
    parse_limits,
)
from auth_api.oidc.origins import parse_origin
from service_kit.settings import DEFAULT_LIMITS

ADDRESS = parse_address("Foo@Example.com")
ORIGIN = parse_origin("https://rp.example:8443")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("ip:50/s", Limit(("ip",), 50, 1)),
        ("ip:extend_window:100/5s", Limit(("ip",), 100, 5, extend_window=True)),
        ("ip:email:30/h", Limit(("ip", "email"), 30, 3600)),
        ("ip:email:decr_complete:5/15m", Limit(("ip", "email"), 5, 900, decr_complete=True)),
        ("origin:ip:decr_complete:email:2/15mins", Limit(("ip", "email", "origin"), 2, 900, decr_complete=True)),
        ("1000/2days", Limit((), 1000, 172_800)),
        ("domain:domain:1/minute", Limit(("domain",), 1, 60)),
        (" email:5/ 15 min ", Limit(("email",), 5, 900)),
    ],
)
def test_limit_in_any_order_and_spelling_is_read_as_what_it_means(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("unit", ["s", "sec", "secs", "second", "seconds"])
def test_every_spelling_of_a_unit_is_the_same(unit: str) -> None:
    assert parse_limit(f"5/7{unit}").window == 7
    longer = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    names = {"m": "m min mins minute minutes", "h": "h hour hours", "d": "d day days"}
    for letter, spellings in names.items():
        assert {parse_limit(f"5/{name}").window for name in spellings.split()} == {longer[letter]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no slash"),
        ("ip:5", "no slash"),
        ("ip:5/", "no unit"),
        ("ip:5/15", "no unit"),
        ("ip:5/15w", "unit 'w' is unknown"),
        ("ip:5/M", "unit 'M' is unknown"),
        ("ip:5/-1s", "unit '-1s' is unknown"),
        ("ip:five/s", "count 'five'"),
        ("ip:/s", "count ''"),
        ("ip:-1/s", "count '-1'"),
        ("ip:+1/s", r"count '\+1'"),
        ("ip:1_0/s", "count '1_0'"),
        ("ip:٣/s", "count"),
        ("ip:5/s/s", "count '5/s'"),
        ("IP:5/s", "flag 'IP' is unknown"),
        ("ip::5/s", "flag '' is unknown"),
        ("user:5/s", "flag 'user' is unknown"),
        ("ip:0/s", "count of 0"),
        ("ip:5/0s", "window of 0"),
        ("ip:9999999999/s", "above"),
        ("ip:5/367d", "longer than 366 days"),
        ("ip:" + "9" * 10_000 + "/s", "count"),
        ("ip:5/" + "9" * 10_000 + "s", "unit"),
    ],
)
def test_errors_are_told_apart(text: str, problem: str) -> None:
    with pytest.raises(InvalidLimitError, match=problem):
        parse_limit(text)


def test_the_defaults_are_readable_and_all_different() -> None:
    assert len({limit.id for limit in parse_limits(DEFAULT_LIMITS)}) == 5


def test_ids_follow_content_and_not_position_or_spelling() -> None:
    assert parse_limit("ip:decr_complete:email:5/15m").id == "ip:email:decr_complete:5/900s"
    assert parse_limits(["ip:5/min", "email:3/h", "ip:5/60s"]) == parse_limits(["ip:5/m", "email:3/hour"])


def test_values_come_in_a_fixed_order() -> None:
    limit = parse_limit("origin:domain:email:ip:5/s")
    values = limit_key_values(limit, ip=ip_address("192.0.2.7"), address=ADDRESS, origin=ORIGIN)
    assert values == ("192.0.2.7", "foo@example.com", "example.com", "https://rp.example:8443")


def test_limit_without_key_flags_is_one_global_counter() -> None:
    limit = parse_limit("decr_complete:5/s")
    assert limit_key_values(limit, ip=ip_address("::1"), address=ADDRESS, origin=ORIGIN) == ()


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_ipv6_clients_of_one_64_share_a_counter(site: int, one: int, other: int) -> None:
    limit = parse_limit("ip:5/s")
    values = {
        limit_key_values(limit, ip=IPv6Address(site << 64 | host), address=ADDRESS, origin=ORIGIN)
        for host in (one, other)
    }
    assert len(values) == 1


def _in_order(keys: set[LimitKey]) -> tuple[LimitKey, ...]:
    return tuple(key for key in LIMIT_KEYS if key in keys)


@settings(deadline=None)
@given(
    st.builds(
        Limit,
        st.sets(st.sampled_from(LIMIT_KEYS)).map(_in_order),
        st.integers(1, 10**9),
        st.integers(1, 366 * 86_400),
        st.booleans(),
        st.booleans(),
    )
)
def test_a_limits_id_reads_back_as_the_limit(limit: Limit) -> None:
    assert parse_limit(limit.id) == limit


@settings(deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="ipemal:/0159smhd ", max_size=20)))
def test_any_text_is_a_limit_or_refused(text: str) -> None:
    try:
        limit = parse_limit(text)
    except InvalidLimitError:
        return
    assert limit.count > 0
    assert limit.window > 0

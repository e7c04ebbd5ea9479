"""Which language a person gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth_api.pages import Locale, negotiate


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Locale.EN),
        ("", Locale.EN),
        ("de", Locale.DE),
        ("DE-at", Locale.DE),
        ("en-GB,de;q=0.9", Locale.EN),
        ("fr", Locale.FR),
        ("fr-CA", Locale.FR_CA),
        ("fr-ca-x-mine", Locale.FR_CA),
        ("fr-CH, de;q=0.9", Locale.FR),
        ("fr-CA;q=0.5, fr;q=0.8", Locale.FR),
        ("nl;q=0.3, de;q=0.7", Locale.DE),
        ("de;q=0.7 , nl ; q=0.7", Locale.DE),
        ("zh-Hant-TW, ja;q=0.9, nl-BE;q=0.1", Locale.NL),
        ("zh, *;q=0.5", Locale.EN),
        ("de;q=0, nl;q=0.1", Locale.NL),
        ("de;q=0", Locale.EN),
        ("de;q=1.5, nl;q=0.2", Locale.NL),
        ("de;q=abc, nl", Locale.NL),
        ("de;level=1, nl;q=0.2", Locale.NL),
        (",,;q=1,;,nl", Locale.NL),
    ],
)
def test_header_chooses_by_quality_with_regions_falling_back(header: str | None, expected: Locale) -> None:
    assert negotiate([], header) is expected


def test_ui_locales_come_before_the_header_in_their_order() -> None:
    assert negotiate(["ja", "nl-BE", "de"], "fr") is Locale.NL
    assert negotiate(["ja"], "fr") is Locale.FR
    assert negotiate(["fr_CA"], None) is Locale.FR_CA


def test_what_lies_beyond_the_bounds_is_not_looked_at() -> None:
    assert negotiate([], ",".join(["xx"] * 5000) + ",de") is Locale.EN
    assert negotiate([], "x" * 100_000 + ",de") is Locale.EN
    assert negotiate(["x"] * 5000 + ["de"], None) is Locale.EN
    assert negotiate(["-" * 1_000_000], "-" * 1_000_000) is Locale.EN


_pieces = st.sampled_from(
    ["de", "fr-CA", "nl", "*", ";", ",", "q=", "0.", "1", "=", "-", " ", "\t", "\0", "İ", "q=1e9"]
)


@given(
    ui_locales=st.lists(st.text()),
    header=st.one_of(st.none(), st.text(), st.lists(_pieces, max_size=200).map("".join)),
)
def test_anything_at_all_gets_a_language(ui_locales: list[str], header: str | None) -> None:
    assert negotiate(ui_locales, header) in Locale


@given(
    qualities=st.dictionaries(st.sampled_from(Locale), st.integers(1, 1000), min_size=1),
)
def test_highest_quality_wins(qualities: dict[Locale, int]) -> None:
    header = ", ".join(f"{locale};q={quality / 1000:.3f}" for locale, quality in qualities.items())
    assert qualities[negotiate([], header)] == max(qualities.values())

"""Private keys at rest."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_store.errors import StoreError
from shared_store.sealing import Sealer, SealError

TEXT = "-----BEGIN PRIVATE KEY-----\né\n"


def test_sealed_text_opens_and_shows_nothing_of_itself() -> None:
    sealer = Sealer(["k" * 32])
    sealed = sealer.seal(TEXT, context="RS256:kid")
    assert "PRIVATE" not in sealed
    assert b"PRIVATE" not in base64.b64decode(sealed.rpartition(":")[2])
    assert sealer.open(sealed, context="RS256:kid") == TEXT
    assert sealer.seal(TEXT, context="RS256:kid") != sealed


def test_sealed_text_opens_in_its_own_context_alone() -> None:
    sealer = Sealer(["k" * 32])
    with pytest.raises(SealError, match="damaged"):
        sealer.open(sealer.seal(TEXT, context="RS256:a"), context="RS256:b")


def test_sealed_text_needs_its_key_and_the_error_names_it() -> None:
    sealed = Sealer(["first"]).seal(TEXT, context="c")
    with pytest.raises(SealError, match="key_encryption_key") as told:
        Sealer(["second"]).open(sealed, context="c")
    with pytest.raises(SealError):
        Sealer().open(sealed, context="c")
    assert isinstance(told.value, StoreError)
    assert "first" not in str(told.value)
    assert "second" not in str(told.value)


def test_new_key_before_the_old_opens_both_and_seals_under_the_new() -> None:
    old, both = Sealer(["old"]), Sealer(["new", "old"])
    sealed = old.seal(TEXT, context="c")
    assert both.open(sealed, context="c") == TEXT
    assert not both.is_current(sealed)
    again = both.seal(TEXT, context="c")
    assert both.is_current(again)
    assert Sealer(["new"]).open(again, context="c") == TEXT


def test_without_keys_text_stays_as_it_is() -> None:
    sealer = Sealer()
    assert sealer.seal(TEXT, context="c") == sealer.open(TEXT, context="c") == TEXT
    assert sealer.is_current(TEXT)
    assert not sealer.is_current(Sealer(["k"]).seal(TEXT, context="c"))
    assert Sealer(["k"]).open(TEXT, context="c") == TEXT
    assert not Sealer(["k"]).is_current(TEXT)


@given(st.text(max_size=200))
def test_any_text_comes_back(text: str) -> None:
    sealer = Sealer(["k"])
    assert sealer.open(sealer.seal(text, context="c"), context="c") == text


@given(st.data())
def test_any_damage_is_told(data: st.DataObject) -> None:
    sealer = Sealer(["k"])
    sealed = sealer.seal("text", context="c")
    at = data.draw(st.integers(len("sealed:1:"), len(sealed) - 1))
    character = data.draw(st.characters(codec="utf-8").filter(lambda found: found != sealed[at]))
    with pytest.raises(SealError):
        sealer.open(sealed[:at] + character + sealed[at + 1 :], context="c")


def test_damage_in_the_bits_that_base64_ignores_is_told() -> None:
    sealer = Sealer(["k"])
    sealed = sealer.seal("text", context="c").rstrip("=")
    assert len(sealer.seal("text", context="c")) > len(sealed)
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    neighbour = digits[digits.index(sealed[-1]) ^ 1]
    with pytest.raises(SealError):
        sealer.open(f"{sealed[:-1]}{neighbour}=", context="c")


@given(st.text(max_size=60))
def test_junk_after_the_prefix_is_told(junk: str) -> None:
    sealer = Sealer(["k"])
    prefix = sealer.seal("", context="c").rpartition(":")[0]
    with pytest.raises(SealError):
        sealer.open(f"{prefix}:{junk}", context="c")

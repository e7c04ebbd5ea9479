"""The languages pages come in, and which of them a person gets."""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum

# Browsers send a few dozen bytes; whatever comes after these bounds is not looked at.
_MAX_HEADER = 1024
_MAX_ENTRIES = 32
_MAX_TAG = 35  # RFC 5646 section 4.4.1: room for every sensible tag

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


class Locale(StrEnum):
    """A language that every page and mail exists in; the value is its BCP 47 tag."""

    EN = "en"
    DE = "de"
    NL = "nl"
    FR_CA = "fr-CA"
    FR = "fr"


_BY_TAG = {locale.value.lower(): locale for locale in Locale}


def negotiate(ui_locales: Sequence[str], accept_language: str | None) -> Locale:
    """The first language we have: `ui_locales` in their order, then Accept-Language by quality, else English.

    A region falls back to its language (fr-CH to fr), as in RFC 4647 section 3.4. Never raises: both come from outside.
    """
    for tag in (*ui_locales[:_MAX_ENTRIES], *_by_quality(accept_language or "")):
        locale = _lookup(tag)
        if locale is not None:
            return locale
    return Locale.EN


def _lookup(tag: str) -> Locale | None:
    tag = tag[:_MAX_TAG].strip().replace("_", "-").lower()
    while tag:
        locale = _BY_TAG.get(tag)
        if locale is not None:
            return locale
        tag = tag.rpartition("-")[0]
    return None


def _by_quality(header: str) -> list[str]:
    entries = sorted(_entries(header), key=lambda entry: -entry[1])
    return [tag for tag, quality in entries if quality > 0]


def _entries(header: str) -> Iterator[tuple[str, float]]:
    """Tags with their quality (RFC 9110 section 12.5.4); an entry with a malformed quality is skipped."""
    for entry in header[:_MAX_HEADER].split(",", _MAX_ENTRIES)[:_MAX_ENTRIES]:
        tag, separator, parameter = entry.partition(";")
        quality = _QUALITY.fullmatch(parameter.strip()) if separator else None
        if not separator:
            yield tag, 1.0
        elif quality is not None:
            yield tag, float(quality[1])

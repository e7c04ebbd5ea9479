"""How commands write what they found, for people: columns and times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

MOST_LETTERS = 200  # of a cell


def printable(text: str) -> str:
    """Give a text of whatever origin as a terminal can show it: what is no letter as a question mark, and cut off."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MOST_LETTERS])


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay out lines in columns, each cell as `printable` gives it."""
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )


def utc(time: float) -> str:
    """Write a Unix time as people and machines read it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""How commands write what they found, for people: columns and times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Lay out lines in columns; what is no text for a terminal shows as a question mark."""
    lines = [["".join(letter if letter.isprintable() else "?" for letter in cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )


def utc(time: float) -> str:
    """Write a Unix time as people and machines read it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

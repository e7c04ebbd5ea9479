"""The table in docs/conformance.md names tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "conformance.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/.-]+\.py)::(\w+)`", TABLE)))


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions}


def test_table_names_tests() -> None:
    assert len(NAMED) > 100


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_tests_that_the_table_names_exist(path: str) -> None:
    assert (ROOT / path).is_file(), f"{path} is in docs/conformance.md, but not here"
    missing = {name for named, name in NAMED if named == path} - functions_of(path)
    assert not missing, f"{path} has no longer what docs/conformance.md says: {sorted(missing)}"


def test_every_row_has_a_test_or_says_why_not() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith(("| item", "| ---"))]
    assert len(rows) > 100
    for row in rows:
        _, _item, tests, note, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", row))
        assert tests or note, row

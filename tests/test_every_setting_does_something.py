"""Every setting changes what a service does, and a test shows it: this one finds that test.

A test names the settings whose effect it shows with `@pytest.mark.setting("listen_ip", "listen_port")`; it runs the
service, in part or whole, and fails if the setting were read and forgotten. Tests of mere parsing do not count. This
module reads the marks off the source of all tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from service_kit.settings import catalogue

ROOT = Path(__file__).parents[1]
FOLDERS = ("libs/*/tests", "services/*/tests", "launcher/tests", "tests")

# Settings without such a test yet. This list only ever gets shorter.
MISSING: frozenset[str] = frozenset()


@cache
def marked() -> dict[str, list[str]]:
    """Every marked setting with the tests that are marked for it."""
    found: dict[str, list[str]] = {}
    for pattern in FOLDERS:
        for folder in ROOT.glob(pattern):
            for path in sorted(folder.rglob("test_*.py")):
                for name, test in _marks(path):
                    found.setdefault(name, []).append(f"{path.relative_to(ROOT)}::{test}")
    return found


def _marks(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.setting":
                yield from ((ast.literal_eval(argument), node.name) for argument in call.args)


@pytest.mark.parametrize("name", catalogue())
def test_setting_has_a_test_that_it_does_something(name: str) -> None:
    if name in MISSING:
        assert name not in marked(), f"{name} has its test now: take it out of MISSING"
        return
    assert name in marked(), (
        f"no test shows what {name} does. Write one that runs {' or '.join(catalogue()[name].readers)} with it and "
        f'would fail if it were ignored, and mark that test @pytest.mark.setting("{name}")'
    )


def test_marks_name_settings_that_there_are() -> None:
    assert marked().keys() <= catalogue().keys()
    assert catalogue().keys() >= MISSING

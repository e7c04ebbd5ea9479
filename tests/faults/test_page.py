"""docs/faults.md is current, and names only tests and rows that there are."""

from __future__ import annotations

from tests.faults.document import ROOT, ROWS, marks, page


def test_page_is_current() -> None:
    assert (ROOT / "docs" / "faults.md").read_text() == page(), "make docs"


def test_marks_name_rows_that_there_are() -> None:
    assert {told["row"] for _, told in marks()} <= ROWS.keys()


def test_tests_that_the_page_names_are_there() -> None:
    for tests in ROWS.values():
        for test in tests:
            path, name = test.split("::")
            assert f"def {name}(" in (ROOT / path).read_text(), test


def test_every_row_has_a_test() -> None:
    assert "*Not shown.*" not in page()

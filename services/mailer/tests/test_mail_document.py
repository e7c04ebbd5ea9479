"""The table of SMTP replies in docs/mail.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailer.transports.smtp_replies import judge_reply
from mailer.verdicts import Stage

PAGE = (Path(__file__).parents[3] / "docs" / "mail.md").read_text()
STAGES = "|".join(Stage)
ROWS = re.findall(rf"^\| ({STAGES}) \| ([0-9]{{3}})(?: ([0-9.]+))? \| (\w+) \| (\w+) \|", PAGE, re.MULTILINE)


def test_table_is_found() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("stage", "code", "enhanced", "outcome", "fault"), ROWS)
def test_row_says_what_the_code_does(stage: str, code: str, enhanced: str, outcome: str, fault: str) -> None:
    verdict = judge_reply(Stage(stage), int(code), enhanced)
    assert (verdict.kind, verdict.fault) == (outcome, fault)

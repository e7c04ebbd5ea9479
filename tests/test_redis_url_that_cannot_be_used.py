"""A redis_url of a form that nothing can be made of: each program says so at once, as of any other setting."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEEDED = {
    "BROKER_PUBLIC_URL": "https://login.example.com",
    "BROKER_FROM_ADDRESS": "login@example.com",
    "BROKER_SMTP_SERVER": "localhost",
}


@pytest.mark.parametrize("program", ["auth_api", "mailer", "key_rotator", "portier_broker"])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://user:s3/cr@t@localhost", "%2F"),
        ("redis+sentinel://localhost", "the master's name"),
        ("redis://localhost/abc", "database"),
    ],
)
def test_it_ends_the_program_with_2_and_says_what_is_wrong(program: str, url: str, told: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", program],
        env={**NEEDED, "BROKER_REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "redis_url (environment BROKER_REDIS_URL): can't be used" in ended.stderr
    assert told in ended.stderr
    assert "s3" not in ended.stderr
    assert "Traceback" not in ended.stderr

"""The demo as a newcomer starts it: real processes, a real SMTP conversation, a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.stack import Running, launcher, until


@dataclass(frozen=True)
class Demo(Running):
    """A running demo."""

    @property
    def site(self) -> str:
        return self.urls["demo_site"]

    @property
    def inbox(self) -> str:
        return self.urls["inbox"]

    def mail_to(self, address: str) -> dict[str, Any]:
        """Wait for the newest mail to an address."""

        def look() -> dict[str, Any] | None:
            mails = httpx.get(f"{self.inbox}/mails.json").json()
            found = [mail for mail in mails if address in mail["recipients"]]
            return found[0] if found else None

        mail: dict[str, Any] = until(look)
        return mail

    def code_and_link(self, address: str) -> tuple[str, str]:
        lines = self.mail_to(address)["text"].splitlines()
        [link] = [line for line in lines if line.startswith(f"{self.broker}/confirm?")]
        [code] = [line for line in lines if len(line) == 13 and line[6] == " " and line.replace(" ", "").isalnum()]
        return code, link


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    arguments = ["demo", "--no-open"]
    arguments += ["--broker-port", "0", "--inbox-port", "0", "--inbox-smtp-port", "0", "--site-port", "0"]
    # Many logins come from this one machine, and some right after another.
    settings = {"limits": "ip:1000/s", "resend_delay": "1", "log_level": "info"}
    with launcher(tmp_path_factory.mktemp("demo"), *arguments, **settings) as running:
        yield Demo(running.urls, running.log)

"""The demo as a newcomer starts it: real processes, a real SMTP conversation, a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

READY_BOUND = 60.0  # seconds
BOUND = 45.0  # seconds for anything that has to happen: a lease and a reaping are 20 of them

BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Demo:
    """A running demo: where its parts are, and what it has written."""

    broker: str
    site: str
    inbox: str
    ready_file: Path
    log: Path

    def pid(self, name: str) -> int:
        """The process id of a part, as it is now: the launcher restarts what dies."""
        children = subprocess.run(
            ["pgrep", "-f", f"{name.replace('-', '_')} run"], capture_output=True, text=True, check=False
        )
        mine = [int(pid) for pid in children.stdout.split() if self._is_mine(int(pid))]
        assert mine, f"{name} does not run"
        return mine[0]

    def _is_mine(self, pid: int) -> bool:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return self.broker.encode() in environ

    def kill(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGKILL)

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


def until(look: Callable[[], Any], *, bound: float = BOUND) -> Any:
    """Wait until something is there; connections may be refused meanwhile."""
    deadline = time.monotonic() + bound
    while True:
        try:
            found = look()
        except httpx.TransportError:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"nothing within {bound} s"
        time.sleep(0.05)  # bounded above; another process has nothing to tell us by


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    ready, log = folder / "ready.json", folder / "log"
    command = [sys.executable, "-m", "portier_broker", "demo", "--no-open", "--ready-file", str(ready)]
    ports = ["--broker-port", "0", "--inbox-port", "0", "--inbox-smtp-port", "0", "--site-port", "0"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    # Many logins come from this one machine, and some right after another.
    environ |= {"BROKER_LIMITS": "ip:1000/s", "BROKER_RESEND_DELAY": "1", "BROKER_LOG_LEVEL": "info"}
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *ports], stdout=output, stderr=output, env=environ)
    try:
        until(lambda: ready.exists() or process.poll() is not None, bound=READY_BOUND)
        assert process.poll() is None, log.read_text()[-3000:]
        urls = json.loads(ready.read_text())["urls"]
        yield Demo(urls["broker"], urls["demo_site"], urls["inbox"], ready, log)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: make system-packages")
        pytest.skip("Chromium is not installed: make system-packages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()

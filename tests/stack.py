"""The whole broker as an operator runs it: launcher, services, an embedded Valkey; and a real SMTP server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

READY_BOUND = 60.0  # seconds
BOUND = 45.0  # seconds for anything that has to happen: a lease and a reaping are 20 of them

_CODE = re.compile(r"^[a-z0-9]{6} [a-z0-9]{6}$", re.MULTILINE)


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


@dataclass(frozen=True)
class Mail:
    """A login's mail: its text part, and what relying parties' own tests look for in it."""

    text: str
    code: str
    link: str

    @property
    def session(self) -> str:
        return dict(parse_qsl(urlsplit(self.link).query))["session"]


@dataclass
class Mailbox:
    """Catches what the mailer sends, in the test's own process."""

    broker: str
    _mails: dict[str, list[Mail]] = field(default_factory=dict)
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, but those who begin with `nobody` (called by aiosmtpd)."""
        if address.startswith("nobody"):
            return "550 5.1.1 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail (called by aiosmtpd)."""
        assert isinstance(envelope.content, bytes)
        self.put(envelope.rcpt_tos, self._text(envelope.content))
        return "250 OK"

    def put(self, addresses: Iterable[str], text: str) -> None:
        """Put a mail, of which this is the text part, where it belongs."""
        [link] = re.findall(rf"^{re.escape(self.broker)}/confirm\?.+$", text, re.MULTILINE)
        [code] = _CODE.findall(text)
        with self._arrived:
            for address in addresses:
                self._mails.setdefault(address, []).append(Mail(text, code, link))
            self._arrived.notify_all()

    def wait_for(self, address: str) -> Mail:
        """Wait for a mail to an address; gives the newest."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: address in self._mails, BOUND), f"no mail to {address}"
            return self._mails[address][-1]

    def count(self, address: str) -> int:
        with self._arrived:
            return len(self._mails.get(address, []))

    def _text(self, source: bytes) -> str:
        part = message_from_bytes(source, policy=policy.default).get_body(("plain",))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")


@dataclass(frozen=True)
class Running:
    """A running launcher: where its parts are, and what it has written."""

    urls: Mapping[str, str]
    log: Path

    @property
    def broker(self) -> str:
        return self.urls["broker"]

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


@dataclass(frozen=True)
class Stack(Running):
    """The broker with a mailbox that all its mails come to."""

    mailbox: Mailbox


@contextlib.contextmanager
def launcher(folder: Path, *arguments: str, **settings: str) -> Iterator[Running]:
    """Run the launcher while the block runs. Settings are BROKER_* without the prefix; others' are not inherited."""
    ready, log = folder / "ready.json", folder / "log"
    command = [sys.executable, "-m", "portier_broker", *arguments, "--ready-file", str(ready)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    environ |= {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    try:
        until(lambda: ready.exists() or process.poll() is not None, bound=READY_BOUND)
        assert process.poll() is None, log.read_text()[-3000:]
        yield Running(json.loads(ready.read_text())["urls"], log)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def stack(folder: Path, *arguments: str, **settings: str) -> Iterator[Stack]:
    """Run the whole broker on an embedded Valkey of its own, and a mailbox."""
    port = free_port()
    mailbox = Mailbox(f"http://localhost:{port}")
    server = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    server.start()
    usual = {
        "listen_port": str(port),
        "public_url": mailbox.broker,
        "memory_storage": "true",
        "internal_port": "0",
        "smtp_server": f"127.0.0.1:{server.port}",
        "smtp_security": "off",
        "from_address": "login@broker.example",
        # Every test's logins come from one network, and some of them right after another.
        "limits": "ip:100000/s",
        "mails_per_address": "100000",
        "resend_delay": "1",
    }
    try:
        with launcher(folder, *arguments, **usual | settings) as running:
            yield Stack(running.urls, running.log, mailbox)
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

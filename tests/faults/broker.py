"""The services as an operator runs them: two auth-apis, two mailers, two key-rotators, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from prometheus_client.parser import text_string_to_metric_families
from tests.stack import Mailbox, until

from shared_store.testing.servers import RedisServer, free_port

SITE, URL = "https://site.example", "http://localhost:3333"
TIMEOUT = 2  # seconds of redis_timeout


class Catcher(Mailbox):
    """A mail server on a port of its own that can be slow, and gone."""

    delay = 0.0
    begun = 0  # mails of which the content has come; their answer may be still to come

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail (called by aiosmtpd)."""
        self.begun += 1
        await asyncio.sleep(self.delay)
        return await super().handle_DATA(server, session, envelope)


class Service:
    """One process, its log, its internal port."""

    def __init__(self, module: str, log: Path, environ: dict[str, str]) -> None:
        self.module = module
        self.log = log
        self._port = free_port()
        self._command = [sys.executable, "-P", "-m", module, "run"]
        self.environ = environ | {"BROKER_INTERNAL_PORT": str(self._port)}
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self.environ, stdout=log, stderr=log)

    def readiness(self) -> dict[str, Any] | None:
        """What /readyz says, None while nothing answers there."""
        with contextlib.suppress(httpx.TransportError):
            told: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self._port}/readyz", timeout=10).json()
            return told
        return None

    def doctor(self) -> dict[str, Any]:
        """What doctor has found, as /readyz tells it."""
        found: dict[str, Any] = (self.readiness() or {}).get("doctor", {})
        return found

    def metric(self, name: str, **labels: str) -> float:
        """A sum over its metric's samples that have these labels."""
        text = httpx.get(f"http://127.0.0.1:{self._port}/metrics", timeout=10).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def is_ready(self) -> bool:
        return bool((self.readiness() or {}).get("ready"))

    def says(self, text: str) -> bool:
        """Whether it is not ready, and says this for a reason."""
        told = self.readiness() or {"ready": True}
        return not told["ready"] and any(text in check.get("reason", "") for check in told["checks"])

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the same service, with the same settings."""
        command = [*self._command[:-1], *words]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=False)

    def lines(self, text: str = "") -> list[dict[str, Any]]:
        """Its log, line by line: those that have this in them."""
        written = self.log.read_text().splitlines()
        return [json.loads(line) for line in written if text in line and line.startswith("{")]

    def does(self, *words: str) -> str:
        """Run a command that has to succeed, and give what is printed."""
        done = self.command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)


@dataclass
class Broker:
    """All of it, and the servers that it depends on."""

    redis: RedisServer
    mailbox: Catcher
    apis: list[Service]
    mailers: list[Service]
    rotators: list[Service]
    urls: list[str]
    smtp: Controller

    @property
    def services(self) -> list[Service]:
        return [*self.apis, *self.mailers, *self.rotators]

    @property
    def one_of_each(self) -> list[Service]:
        return [self.apis[0], self.mailers[0], self.rotators[0]]

    def until_ready(self) -> None:
        for service in self.services:
            until(service.is_ready, bound=180)
            until(service.is_ready, bound=120)  # six processes that start on a machine with other work

    def nobody_died(self) -> bool:
        return all(service.process.poll() is None for service in self.services)

    def sent(self, name: str, **labels: str) -> float:
        """A sum over both mailers' metric."""
        return sum(mailer.metric(name, **labels) for mailer in self.mailers)

    def mails_waiting(self) -> int:
        """How many mail jobs there are, wherever they are."""
        return int(self.redis.ask("HLEN", "mail:{mail}:jobs"))

    def mail_log(self) -> str:
        """What the mailers have logged."""
        return "".join(mailer.log.read_text() for mailer in self.mailers)

    def begin(self, address: str, *, api: int = 0, browser: httpx.Client | None = None, **other: str) -> httpx.Response:
        """Ask for a login, with other parameters where they are given."""
        get = browser.get if browser else httpx.get
        return get(f"{self.urls[api]}/auth", params=asked(address) | other, timeout=30)

    def confirm(self, address: str, *, api: int = 0) -> httpx.Response:
        """Type the code that was mailed."""
        mail = self.mailbox.wait_for(address)
        fields = {"session": mail.session, "code": mail.code, "device_ok": "1"}
        return httpx.post(f"{self.urls[api]}/confirm", data=fields, timeout=30)

    def log_in(self, address: str) -> None:
        """A whole login, begun at one auth-api and ended at the other."""
        begun = self.begin(address)
        assert begun.status_code == 200, begun.text
        done = self.confirm(address, api=1)
        assert done.status_code == 200, done.text
        assert 'name="id_token"' in done.text

    def kids(self, api: int = 0) -> list[str]:
        return [key["kid"] for key in httpx.get(f"{self.urls[api]}/keys.json", timeout=5).json()["keys"]]


def asked(address: str) -> dict[str, str]:
    """The parameters of a login's authorization request."""
    return {
        "client_id": SITE, "redirect_uri": f"{SITE}/back", "response_type": "id_token", "scope": "openid email",
        "response_mode": "form_post", "nonce": "n", "login_hint": address,
    }  # fmt: skip


def open_smtp(mailbox: Catcher, port: int) -> Controller:
    """Start the mail server; one that was stopped is never started again."""
    smtp = Controller(mailbox, hostname="127.0.0.1", port=port)
    smtp.start()
    return smtp


def is_told(answer: httpx.Response) -> bool:
    """Whether an answer is what an outage is to look like from outside."""
    return answer.status_code == 503 and "retry-after" in answer.headers and "Traceback" not in answer.text


@contextlib.contextmanager
def broker(
    folder: Path,
    *,
    rotators: int = 2,
    server: contextlib.AbstractContextManager[RedisServer] | None = None,
    users: Mapping[str, str] | None = None,
    mailbox: Catcher | None = None,
    starts: bool = True,
    **settings: object,
) -> Iterator[Broker]:
    """Run it while the block runs, on a Valkey of its own that keeps what is written, or on another server.

    `users` are the passwords of the services, where each has a user of its name; `folder` then has each one's URL.
    Unless it `starts`, nobody waits for it to be ready.
    """
    mailbox, ports = mailbox or Catcher(URL), [free_port(), free_port()]
    smtp = open_smtp(mailbox, free_port())
    kept = {"appendonly": "yes", "appendfsync": "always"}

    def environ_of(name: str) -> dict[str, str]:
        if not users:
            return environ
        file = folder / f"redis_url.{name}"
        file.write_text(redis.url.replace("://", f"://{name}:{users[name]}@"))
        return environ | {"BROKER_REDIS_URL_FILE": str(file)}

    with server or RedisServer("valkey9", port=free_port(), config=kept) as redis:
        given = {
            **({} if users else {"redis_url": redis.url}), "redis_timeout": TIMEOUT, "public_url": URL,
            "from_address": "login@broker.example", "smtp_server": f"127.0.0.1:{smtp.port}", "smtp_security": "off",
            "limits": "ip:100000/s", "mails_per_address": 1000, "allowed_domains": "example.org", "mail_wait": 1,
            "log_format": "json", **settings,
        }  # fmt: skip
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        environ |= {f"BROKER_{name.upper()}": str(value) for name, value in given.items()}
        apis = [
            Service("auth_api", folder / f"auth-api-{port}", environ_of("auth-api") | {"BROKER_LISTEN_PORT": str(port)})
            for port in ports
        ]
        running = Broker(
            redis, mailbox, apis,
            [Service("mailer", folder / f"mailer-{number}", environ_of("mailer")) for number in range(2)],
            [
                Service("key_rotator", folder / f"key-rotator-{number}", environ_of("key-rotator"))
                for number in range(rotators)
            ],
            [f"http://127.0.0.1:{port}" for port in ports], smtp,
        )  # fmt: skip
        for service in running.services:
            service.start()
        try:
            if starts:
                running.until_ready()
            yield running
        finally:
            for service in running.services:
                service.end()
            running.smtp.stop(no_assert=True)  # a test may have stopped it

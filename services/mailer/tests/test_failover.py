"""Failover with real mail servers, each a process of its own, that are killed, stopped and started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest
from prometheus_client import CollectorRegistry

from mailer import circuit
from mailer.circuit import FAILURES
from mailer.composition import make_delivery, open_transports
from mailer.delivery import Delivery
from mailer.mails import Mail, Sender
from mailer.metrics import Metrics
from mailer.recipients import parse_recipient
from mailer.settings import Settings
from mailer.transports.smtp import SmtpOptions, SmtpTransport
from mailer.verdicts import Fault, Kind, Verdict
from service_kit.settings import load

from . import smtp_server
from .processes import until

SENDER = Sender.of("Portier", parse_recipient("login@broker.example"))


class MailServer:
    """A mail server that can be killed, stopped, and started again on its port."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        starts = self._lines.count("ready")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, smtp_server.__file__, str(self.port)], stdout=log)  # noqa: ASYNC220  it only starts
        await until(lambda: self._lines.count("ready") > starts)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; after SIGKILL it is gone."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.wait(10)

    @property
    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def recipients(self) -> list[str]:
        """Who got a mail by it."""
        return [line for line in self._lines if line != "ready"]


class Sending:
    """Sends mails, each to a recipient of its own."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._numbers = itertools.count()
        self.sent: list[str] = []

    async def __call__(self, *, bound: float = 10) -> Verdict:
        address = f"person{next(self._numbers)}@example.org"
        mail = Mail("id", SENDER, parse_recipient(address), "Subject", "Hello\n", "<p>", ())
        verdict = await self._delivery.attempt(mail, bound=bound, within=60)
        if verdict.kind is Kind.DELIVERED:
            self.sent.append(address)
        return verdict


@pytest.fixture
def servers(tmp_path: Path, unused_tcp_port_factory: object) -> Iterator[list[MailServer]]:
    with contextlib.ExitStack() as stack:
        port = unused_tcp_port_factory
        yield [stack.enter_context(MailServer(port(), tmp_path / name)) for name in ("one", "two")]  # type: ignore[operator]


@pytest.fixture
async def send(servers: list[MailServer], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sending]:
    monkeypatch.setattr(circuit, "PAUSE", 0.1)
    for server in servers:
        await server.start()
    addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    environ = {"BROKER_REDIS_URL": "redis://unused", "BROKER_FROM_ADDRESS": SENDER.address,
               "BROKER_SMTP_SERVER": addresses}  # fmt: skip
    settings = load(Settings, service="mailer", environ=environ).settings
    async with open_transports(settings) as transports:
        delivery = make_delivery(settings, transports, Metrics(CollectorRegistry()))
        task = asyncio.create_task(delivery.run())
        yield Sending(delivery)
        task.cancel()


async def goes_by(server: MailServer, send: Sending) -> bool:
    verdict = await send()
    return verdict.transport == f"smtp 127.0.0.1:{server.port}"


@pytest.mark.setting("smtp_server")
async def test_mails_go_by_the_second_server_while_the_first_is_killed_and_return_with_it(
    servers: list[MailServer], send: Sending
) -> None:
    one, two = servers
    assert all([await goes_by(one, send) for _ in range(5)])
    one.signal(signal.SIGKILL)
    assert all([await goes_by(two, send) for _ in range(FAILURES + 30)])
    await one.start()
    await until(lambda: goes_by(one, send))
    assert all([await goes_by(one, send) for _ in range(5)])
    assert sorted(one.recipients + two.recipients) == sorted(send.sent)


async def test_server_that_is_stopped_holds_up_few_mails_and_duplicates_none(
    servers: list[MailServer], send: Sending
) -> None:
    one, two = servers
    assert await goes_by(one, send)
    one.signal(signal.SIGSTOP)
    verdicts = await asyncio.gather(*(send(bound=1) for _ in range(FAILURES)))
    verdicts += [await send() for _ in range(30)]
    assert {verdict.transport for verdict in verdicts} == {f"smtp 127.0.0.1:{two.port}"}
    one.signal(signal.SIGCONT)
    await until(lambda: goes_by(one, send))
    assert sorted(one.recipients + two.recipients) == sorted(send.sent)


async def test_both_servers_gone_lose_no_mail_that_waits(servers: list[MailServer], send: Sending) -> None:
    one, two = servers
    for server in servers:
        server.signal(signal.SIGKILL)
    verdicts = await asyncio.gather(*(send() for _ in range(FAILURES)))
    assert {verdict.kind for verdict in verdicts} == {Kind.TRY_AGAIN}
    waiting = [asyncio.create_task(send(bound=30)) for _ in range(10)]
    await two.start()
    assert {verdict.kind for verdict in await asyncio.gather(*waiting)} == {Kind.DELIVERED}
    assert sorted(two.recipients) == sorted(send.sent)
    assert one.recipients == []


async def test_packets_that_are_dropped_in_silence_count_as_the_servers_fault() -> None:
    # A queue of connections that is full: the kernel drops every further SYN.
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listening.getsockname()[1]
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        mail = Mail("id", SENDER, parse_recipient("jane@example.org"), "Subject", "Hello\n", "<p>", ())
        verdict = await SmtpTransport(SmtpOptions("127.0.0.1", port)).send(mail, bound=0.5)
        assert (verdict.kind, verdict.fault, verdict.reason) == (Kind.TRY_AGAIN, Fault.TRANSPORT, "connect timed out")

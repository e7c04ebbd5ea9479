"""Failover with real mail servers, each a process of its own, that are killed, stopped and started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
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
from mailer.transports.smtp import SmtpTransport
from mailer.transports.smtp_opening import SmtpOptions
from mailer.verdicts import Fault, Kind, Verdict
from service_kit.settings import load

from . import smtp_server
from .processes import packets_dropped, until

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
    def name(self) -> str:
        """The name of the transport that sends by it."""
        return f"smtp 127.0.0.1:{self.port}"

    @property
    def _lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def recipients(self) -> list[str]:
        """Who got a mail by it."""
        return [line for line in self._lines if line != "ready"]


class Sending:
    """Sends mails, each to a recipient of its own."""

    def __init__(self, delivery: Delivery, registry: CollectorRegistry) -> None:
        self._delivery = delivery
        self._registry = registry
        self._numbers = itertools.count()
        self.sent: list[str] = []

    async def __call__(self, *, bound: float = 10) -> Verdict:
        address = f"person{next(self._numbers)}@example.org"
        mail = Mail("id", SENDER, parse_recipient(address), "Subject", "Hello\n", "<p>", ())
        verdict = await self._delivery.attempt(mail, bound=bound, within=60)
        if verdict.kind is Kind.DELIVERED:
            self.sent.append(address)
        return verdict

    def tries(self, server: MailServer, fault: Fault) -> float:
        """How many tries ended with this fault of a server."""
        labels = {"transport": server.name, "outcome": "try_again", "fault": fault.value}
        return self._registry.get_sample_value("mailer_transport_tries_total", labels) or 0


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
        registry = CollectorRegistry()
        delivery = make_delivery(settings, transports, Metrics(registry))
        task = asyncio.create_task(delivery.run())
        yield Sending(delivery, registry)
        task.cancel()


async def goes_by(server: MailServer, send: Sending) -> bool:
    verdict = await send()
    return verdict.transport == server.name


@pytest.mark.setting("smtp_server")
async def test_mails_go_by_the_second_server_while_the_first_is_killed_and_return_with_it(
    servers: list[MailServer], send: Sending
) -> None:
    one, two = servers
    await until(lambda: goes_by(one, send))
    one.signal(signal.SIGKILL)
    assert all([await goes_by(two, send) for _ in range(FAILURES + 30)])
    await one.start()
    await until(lambda: goes_by(one, send))
    assert sorted(one.recipients + two.recipients) == sorted(send.sent)


async def test_server_that_is_stopped_holds_one_mail_of_a_stream_up_and_duplicates_none(
    servers: list[MailServer], send: Sending
) -> None:
    one, two = servers
    await until(lambda: goes_by(one, send))
    one.signal(signal.SIGSTOP)
    verdicts = [await send() for _ in range(100)]
    assert {(verdict.kind, verdict.transport) for verdict in verdicts} == {(Kind.DELIVERED, two.name)}
    assert send.tries(one, Fault.TRANSPORT) == 1
    one.signal(signal.SIGCONT)
    await until(lambda: goes_by(one, send))
    assert sorted(one.recipients + two.recipients) == sorted(send.sent)


async def test_server_that_is_stopped_holds_up_only_the_mails_that_are_under_way(
    servers: list[MailServer], send: Sending
) -> None:
    one, two = servers
    await until(lambda: goes_by(one, send))
    one.signal(signal.SIGSTOP)
    verdicts = await asyncio.gather(*(send() for _ in range(20)))
    tries = send.tries(one, Fault.TRANSPORT)
    verdicts += await asyncio.gather(*(send() for _ in range(80)))
    assert {(verdict.kind, verdict.transport) for verdict in verdicts} == {(Kind.DELIVERED, two.name)}
    assert send.tries(one, Fault.TRANSPORT) == tries
    assert send.tries(one, Fault.UNKNOWN) == 0
    one.signal(signal.SIGCONT)
    await until(lambda: goes_by(one, send))
    assert sorted(one.recipients + two.recipients) == sorted(send.sent)


async def test_server_that_packets_do_not_reach_holds_one_mail_of_a_stream_up(
    servers: list[MailServer], send: Sending
) -> None:
    one, two = servers
    one.signal(signal.SIGKILL)
    with packets_dropped(one.port):
        verdicts = [await send() for _ in range(100)]
        assert {(verdict.kind, verdict.transport) for verdict in verdicts} == {(Kind.DELIVERED, two.name)}
        assert send.tries(one, Fault.TRANSPORT) == 1
    await one.start()
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
    with packets_dropped() as port:
        mail = Mail("id", SENDER, parse_recipient("jane@example.org"), "Subject", "Hello\n", "<p>", ())
        transport = SmtpTransport(SmtpOptions("127.0.0.1", port))
        verdict = await transport.send(mail, bound=0.5)
        assert (verdict.kind, verdict.fault, verdict.reason) == (Kind.TRY_AGAIN, Fault.TRANSPORT, "connect timed out")
        await transport.aclose()

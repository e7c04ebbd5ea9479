"""A mailer in the test's own process, and the mail server that it sends to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from mailer.composition import Service, build
from mailer.settings import Settings
from mailer.transports.smtp import SmtpTransport
from mailer.transports.smtp_opening import SmtpOptions
from service_kit.settings import load
from service_kit.stopping import Stop

from .smtp_server import SmtpServer

Start = Callable[..., contextlib.AbstractAsyncContextManager[Service]]


@pytest.fixture
async def smtp() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as server:
        yield server


@pytest.fixture
def server(smtp: SmtpServer) -> SmtpServer:
    """The mail server, for tests of the transport alone."""
    return smtp


@pytest.fixture
async def transport(smtp: SmtpServer) -> AsyncIterator[SmtpTransport]:
    """The transport that sends to it."""
    opened = SmtpTransport(SmtpOptions("127.0.0.1", smtp.port))
    yield opened
    await opened.aclose()


@pytest.fixture
def start(valkey_url: str, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Run a mailer while a block runs; at its end it is stopped as by a signal."""
    monkeypatch.setattr("mailer.worker.BLOCK", 0.2)  # a stop waits for it

    @contextlib.asynccontextmanager
    async def run(**settings: object) -> AsyncIterator[Service]:
        given = {"redis_url": valkey_url, "from_address": "login@broker.example", "smtp_security": "off",
                 "smtp_server": f"127.0.0.1:{smtp.port}", **settings}  # fmt: skip
        environment = {f"BROKER_{name.upper()}": str(value) for name, value in given.items()}
        stop = Stop()
        async with build(load(Settings, service="mailer", environ=environment).settings) as service:
            running = asyncio.create_task(service.run(stop))
            try:
                yield service
            finally:
                stop.request("the test is over")
                async with asyncio.timeout(25):
                    await running

    return run

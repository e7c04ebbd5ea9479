"""What tests of faults share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.broker import URL, Broker, Catcher, broker
from tests.faults.load import Load
from tests.faults.mail_servers import MailServer

from shared_store.testing.deployments import Deployment, deployment

Start = Callable[..., Awaitable[tuple[Deployment, Broker, Load]]]
MakeBroker = Callable[..., Broker]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Services on a Valkey of their own, for all tests of a module."""
    with broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def running(whole: Broker) -> Iterator[Broker]:
    """The module's services; whatever a test did to their Redis is over when the next one begins."""
    yield whole
    assert whole.nobody_died()
    whole.until_ready()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start the services, with these settings, on a kind of deployment, and who takes their mails."""
    with contextlib.ExitStack() as stack:
        async with contextlib.AsyncExitStack() as mail:

            async def started(kind: str, **settings: object) -> tuple[Deployment, Broker, Load]:
                load = Load()
                smtp = f"127.0.0.1:{await mail.enter_async_context(load.mail_server())}"
                servers = await asyncio.to_thread(stack.enter_context, deployment(kind))
                told: dict[str, Any] = {"redis_url": servers.url, "mail_wait": 0, "smtp_server": smtp, **settings}
                services = broker(tmp_path, server=contextlib.nullcontext(servers.servers[0]), **told)
                return servers, await asyncio.to_thread(stack.enter_context, services), load

            yield started
            await asyncio.to_thread(stack.close)


@pytest.fixture
def mailbox() -> Catcher:
    return Catcher(URL)


@pytest.fixture
def server(mailbox: Catcher) -> Iterator[MailServer]:
    with MailServer(mailbox) as running:
        yield running


@pytest.fixture
def second(mailbox: Catcher) -> Iterator[MailServer]:
    with MailServer(mailbox) as running:
        yield running


@pytest.fixture
def make_broker(tmp_path: Path, mailbox: Catcher) -> Iterator[MakeBroker]:
    """Start the services, which send by these mail servers, the first that works of them."""
    with contextlib.ExitStack() as stack:

        def started(*servers: MailServer, **settings: Any) -> Broker:
            addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
            given: dict[str, Any] = {"smtp_server": addresses, **settings}
            return stack.enter_context(broker(tmp_path, mailbox=mailbox, **given))

        yield started

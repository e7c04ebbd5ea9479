"""What tests of a set of Redis servers share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.broker import Broker, broker
from tests.faults.load import Load

from shared_store.testing.deployments import Deployment, deployment

Start = Callable[..., Awaitable[tuple[Deployment, Broker, Load]]]


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

"""What /readyz tells of the store, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

import pytest

from shared_store.acl import SERVICES
from shared_store.connection import ConnectionOptions
from shared_store.document_acl import users
from shared_store.examination import Examination
from shared_store.store import Store
from shared_store.testing.servers import RedisServer, free_port

PASSWORD = "s3cret"


@contextlib.asynccontextmanager
async def examined(url: str, service: str) -> AsyncIterator[Mapping[str, object]]:
    """Give the first examination's summary."""
    async with Store(url, ConnectionOptions()) as store:
        examination = Examination(store, service)
        running = asyncio.create_task(examination.run())
        try:
            async with asyncio.timeout(30):
                while examination.summary()["examined_at"] is None:
                    await asyncio.sleep(0.02)
            yield examination.summary()
        finally:
            running.cancel()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", ["redis7", "redis6"])
async def test_service_under_its_own_user_sees_what_info_tells_and_leaves_no_trace(kind: str, service: str) -> None:
    with RedisServer(kind, port=free_port(), config={"maxmemory-policy": "allkeys-lru"}) as server:
        for line in users("standalone", password=f">{PASSWORD}"):
            _, name, *rules = line.split()
            if name != "default":
                server.ask("ACL", "SETUSER", name, "reset", *rules)
        async with examined(f"unix://{service}:{PASSWORD}@{server.socket}", service) as summary:
            assert abs(summary["examined_at"] - time.time()) < 60  # type: ignore[operator]
            assert summary["error"] == ["eviction_policy"]
            assert "memory_bound" in summary["warning"]  # type: ignore[operator]
            assert "stop_writes_on_bgsave_error" in summary["unknown"]  # type: ignore[operator]
        assert server.ask("ACL", "LOG") == []


async def test_server_that_is_away_is_told_and_nothing_else() -> None:
    async with examined(f"redis://127.0.0.1:{free_port()}", "mailer") as summary:
        assert (summary["error"], summary["warning"], summary["unknown"]) == (["reachable"], [], [])


async def test_one_before_the_first_examination_says_so() -> None:
    async with Store("redis://127.0.0.1:1", ConnectionOptions()) as store:
        assert Examination(store, "mailer").summary() == {"examined_at": None}

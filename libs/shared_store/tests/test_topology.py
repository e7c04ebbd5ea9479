"""A client that begins while part of a Cluster is dead, hangs, or is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreRefused, StoreUnavailable
from shared_store.store import Store
from shared_store.testing.deployments import Certificates, Deployment, Security, cluster
from shared_store.testing.servers import wait_until

BOUND = ConnectionOptions(timeout=1)
TAGS = [f"{{{number}}}" for number in range(9)]


@pytest.fixture
def nodes() -> Iterator[Callable[..., Deployment]]:
    """Start a Cluster of three masters with such lines of configuration."""
    with contextlib.ExitStack() as stack:

        def started(**config: str) -> Deployment:
            lines = {name.replace("_", "-"): value for name, value in config.items()}
            return cluster("valkey9", stack, config=lines, patience=1)

        yield started


async def answers(store: Store) -> AsyncIterator[tuple[str, str]]:
    """Write a key of each tag; gives what came of it: an empty text, or what was told."""
    for tag in TAGS:
        try:
            await store.run(Call((command("SET", tag, 1),), list))
        except StoreUnavailable as error:
            yield tag, str(error)
        else:
            yield tag, ""


def owned_by(number: int, nodes: Deployment) -> list[str]:
    """Give the tags in the slots of one of the three."""
    return [tag for tag in TAGS if int(nodes.servers[-1].ask("CLUSTER", "KEYSLOT", tag)) * 3 // 16384 == number]


async def test_client_begins_while_the_first_master_is_dead_and_reaches_the_others(
    nodes: Callable[..., Deployment],
) -> None:
    running = nodes(cluster_require_full_coverage="no")
    running.servers[0].kill()
    async with Store(running.url, BOUND) as store:
        told = {tag: text async for tag, text in answers(store)}
        assert [tag for tag, text in told.items() if text] == owned_by(0, running)
        with pytest.raises(StoreUnavailable, match=r"can't be reached|no master"):
            await store.ping()
        running.servers[0].start()
        async with asyncio.timeout(30):
            while any([text async for _, text in answers(store)]):
                await asyncio.sleep(0.1)


async def test_client_begins_while_all_nodes_but_the_last_of_the_url_hang(nodes: Callable[..., Deployment]) -> None:
    running = nodes(cluster_require_full_coverage="no")
    for server in running.servers[:2]:
        server.pause()
    for _ in range(3):  # whichever redis-py would have begun with
        async with Store(running.url, BOUND) as store:
            [tag, *_] = owned_by(2, running)
            await store.run(Call((command("SET", tag, 1),), list))


async def test_slots_that_nobody_has_are_told_and_the_others_reached(nodes: Callable[..., Deployment]) -> None:
    running = nodes(cluster_require_full_coverage="no")
    for server in running.servers:
        server.ask("CLUSTER", "DELSLOTSRANGE", 0, 16384 // 3 - 1)
    async with Store(running.url, BOUND) as store:
        told = {tag: text async for tag, text in answers(store)}
    assert [tag for tag, text in told.items() if text] == owned_by(0, running)
    assert {text for text in told.values() if "some hash slots have no master" not in text} == {""}


async def test_dead_master_in_a_cluster_that_wants_all_slots_is_told_as_that(nodes: Callable[..., Deployment]) -> None:
    running = nodes()
    running.servers[0].kill()
    for server in running.servers[1:]:
        wait_until(lambda server=server: b"cluster_state:fail" in server.ask("CLUSTER", "INFO"))  # type: ignore[misc]
    async with Store(running.url, BOUND) as store:
        for owner, told in ((0, "can't be reached"), (2, "some hash slots have no master")):
            with pytest.raises(StoreUnavailable, match=told):
                await store.run(Call((command("SET", owned_by(owner, running)[0], 1),), list))


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[Deployment, Certificates]]:
    """A Cluster whose nodes' certificate is for localhost alone."""
    made = Certificates.make(tmp_path, "localhost")
    with contextlib.ExitStack() as stack:
        security = Security.made_in(stack)
        servers = {**security.servers, **made.config, "tls-auth-clients": "no"}
        yield cluster("redis7", stack, security=replace(security, servers=servers)), made


async def test_certificate_for_localhost_is_good_for_a_cluster_there(secured: tuple[Deployment, Certificates]) -> None:
    running, made = secured
    url = f"{running.url.replace('127.0.0.1', 'localhost')}?remap=127.0.0.1/localhost"
    async with Store(url, ConnectionOptions(ca_file=made.ca)) as store:
        assert {text async for _, text in answers(store)} == {""}
    with pytest.raises(StoreRefused, match=r"127\.0\.0\.1.*redis_url, and what Sentinels and a Cluster tell"):
        async with Store(url.partition("?")[0], ConnectionOptions(ca_file=made.ca)) as store:
            [_ async for _ in answers(store)]


async def test_unknown_authority_is_told_as_that_though_time_is_short(
    secured: tuple[Deployment, Certificates],
) -> None:
    running, _ = secured
    async with Store(running.url, ConnectionOptions(timeout=0.3)) as store:
        for _ in range(5):
            with pytest.raises(StoreRefused, match="redis_ca_file"):
                await store.ping()

"""pytest fixtures. `store` runs a test once for every server named by `--servers` (default: Valkey 9 and Redis 7).

A conftest takes them in with `pytest_plugins = ["shared_store.testing.fixtures"]` at the root.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from shared_store.store import Store
from shared_store.testing.deployments import KINDS, Deployment, deployment
from shared_store.testing.servers import RedisServer

DEFAULT_SERVERS = "valkey9,redis7"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the command line choose the servers."""
    parser.addoption(
        "--servers",
        default=DEFAULT_SERVERS,
        help=f"servers for the store's contract suite, separated by commas, out of {', '.join(KINDS)}",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `any_server` over every server."""
    if "any_server" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--servers").split(",")
        metafunc.parametrize("any_server", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def any_server(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """Give one of the servers, or sets of servers, that the store has to work with."""
    with deployment(request.param) as running:
        yield running


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """Give an embedded Valkey, one for the whole run; use `valkey_url` in a test."""
    with RedisServer("valkey9") as server:
        yield server


@pytest.fixture
async def store(any_server: Deployment) -> AsyncIterator[Store]:
    """Give an empty store, on every server in turn."""
    async with Store(any_server.url, any_server.options) as opened:
        await opened.client.flushall()
        yield opened


@pytest.fixture
async def valkey_url(valkey_server: RedisServer) -> str:
    """Give the URL of an empty embedded Valkey."""
    async with Store(valkey_server.url) as opened:
        await opened.client.flushall()
    return valkey_server.url


@pytest.fixture
async def valkey_store(valkey_url: str) -> AsyncIterator[Store]:
    """Give an empty store on the embedded Valkey, for tests that are not about Redis."""
    async with Store(valkey_url) as opened:
        yield opened

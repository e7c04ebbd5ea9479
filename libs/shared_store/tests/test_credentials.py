"""Passwords, certificates and keys that change while the store runs: none of it takes a restart, or a failed call."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError

from shared_store import rate_limits
from shared_store.connection import ConnectionOptions, _Retry
from shared_store.credentials import Credentials
from shared_store.errors import StoreRefused
from shared_store.rate_limits import Counter
from shared_store.store import Store
from shared_store.store_url import StoreUrl
from shared_store.testing.deployments import (
    MASTER_NAME,
    SENTINEL_PASSWORD,
    Certificates,
    Deployment,
    deployment,
    tls_server,
)
from shared_store.testing.servers import RedisServer, wait_until

ROTATED = "rotated"
HIT = rate_limits.hit([Counter("l", ("x",), 1_000_000, 600)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "redis_url"


def words(file: Path, url: str = "redis://a:old@h", *, for_sentinels: bool = False) -> Credentials:
    return Credentials(StoreUrl.parse(url), file, for_sentinels=for_sentinels)


def test_user_and_password_are_read_again_from_their_file(file: Path) -> None:
    file.write_text("redis://a:old@h\n")
    credentials = words(file)
    assert credentials.get_credentials() == ("a", "old")
    assert not credentials.changed()
    file.write_text("redis://b:new@h\n")
    assert credentials.changed()
    assert credentials.get_credentials() == ("b", "new")
    assert not credentials.changed()
    file.write_text("redis://:only@h\n")
    assert credentials.get_credentials() == ("only",)
    file.write_text("redis://h\n")
    assert credentials.get_credentials() == ()


def test_sentinels_have_a_password_of_their_own(file: Path) -> None:
    url = "redis+sentinel://a:data@h/main?sentinel_password=guards"
    file.write_text(url)
    assert words(file, url, for_sentinels=True).get_credentials() == ("guards",)
    assert words(file, url).get_credentials() == ("a", "data")


@pytest.mark.parametrize(
    "content", ["", "\n", "redis://a:ne", "redis://a:new@other", "redis://a:new@h/1", "ftp://a:new@h", "\xff" * 99]
)
def test_file_that_is_half_written_or_names_another_server_changes_nothing(file: Path, content: str) -> None:
    file.write_text(content, encoding="latin-1")
    assert words(file).get_credentials() == ("a", "old")


def test_file_that_is_gone_changes_nothing(file: Path) -> None:
    assert words(file).get_credentials() == ("a", "old")


@pytest.fixture(params=["redis7-acl", "redis7-sentinel", "redis7-cluster"])
def with_users(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with deployment(request.param) as running:
        yield running


async def test_password_changes_under_load_and_no_call_fails(with_users: Deployment, file: Path) -> None:
    """As docs/redis.md says: the new password beside the old, the file, the old one away, the connections ended."""
    servers = with_users.servers

    def on_all(*command: str) -> None:
        for server in servers:
            server.ask(*command)

    on_all("ACL", "SETUSER", ROTATED, "on", "resetpass", ">old", "~*", "&*", "+@all")
    base = StoreUrl.parse(with_users.url)
    url = f"{str(base).replace('://', f'://{ROTATED}:old@')}"
    file.write_text(url)
    done, stop = 0, asyncio.Event()

    async def load(store: Store) -> None:
        nonlocal done
        while not stop.is_set():
            await store.run(HIT)
            done += 1

    async def some(count: int) -> None:
        target = done + count
        async with asyncio.timeout(30):
            while done < target:
                await asyncio.sleep(0.01)

    async with Store(url, ConnectionOptions(url_file=file)) as store, asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(load(store))
        await some(100)
        await asyncio.to_thread(on_all, "ACL", "SETUSER", ROTATED, ">new")
        file.write_text(url.replace(":old@", ":new@"))
        await some(100)
        await asyncio.to_thread(on_all, "ACL", "SETUSER", ROTATED, "<old")
        await some(100)
        for _ in range(3):
            await asyncio.to_thread(on_all, "CLIENT", "KILL", "USER", ROTATED)
            await some(100)
        stop.set()
    with pytest.raises(StoreRefused, match="refuses the user or password"):
        async with Store(url) as late:
            await late.run(HIT)


async def test_sentinels_password_changes_and_the_master_is_found_again(file: Path) -> None:
    with deployment("redis7-sentinel") as running:
        for guard in running.sentinels:
            guard.ask("ACL", "SETUSER", "default", "on", "resetpass", ">old", "~*", "&*", "+@all")
        url = f"{running.url}?sentinel_password=old"
        file.write_text(url)
        async with Store(url, ConnectionOptions(url_file=file)) as store:
            await store.run(HIT)
            for guard in running.sentinels:
                guard._credentials["password"] = "old"
                guard.ask("ACL", "SETUSER", "default", ">new", "<old")
            file.write_text(url.replace("=old", "=new"))
            for guard in running.sentinels:
                guard._credentials["password"] = "new"
                guard.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            running.servers[0].ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await store.run(HIT)


async def test_wrong_password_of_the_sentinels_is_told() -> None:
    with deployment("redis7-sentinel-tls") as running:
        wrong = running.url.replace(SENTINEL_PASSWORD, "wrong")
        async with Store(wrong, running.options) as store:
            with pytest.raises(StoreRefused, match="sentinel_password"):
                await store.ping()
        async with Store(running.url.replace(f"/{MASTER_NAME}", "/other"), running.options) as store:
            with pytest.raises(Exception, match="name no master"):
                await store.ping()


async def test_password_that_was_changed_first_is_taken_once_the_file_has_it(file: Path) -> None:
    with RedisServer("redis7", config={"requirepass": "old"}, login=("", "old")) as server:
        url = f"unix://:old@{server.socket}"
        file.write_text(url)
        async with Store(url, ConnectionOptions(url_file=file)) as store:
            await store.run(HIT)
            server.ask("CONFIG", "SET", "requirepass", "new")
            server._credentials["password"] = "new"
            server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(StoreRefused, match="refuses the user or password"):
                await store.run(HIT)
            file.write_text(url.replace("old", "new"))
            await store.run(HIT)


def test_refused_password_is_tried_again_only_where_the_file_has_another(file: Path) -> None:
    file.write_text("redis://a:old@h")
    credentials = words(file)
    tried = 0

    async def refuse(*, then_change: bool) -> None:
        nonlocal tried
        tried += 1
        credentials.get_credentials()
        if then_change and tried == 1:
            file.write_text("redis://a:new@h")
        raise AuthenticationError

    async def attempts(*, change: bool) -> int:
        nonlocal tried
        tried = 0

        async def fail(*_: object) -> None: ...

        with contextlib.suppress(AuthenticationError):
            await _Retry(3, credentials).call_with_retry(lambda: refuse(then_change=change), fail)
        return tried

    assert asyncio.run(attempts(change=False)) == 1
    assert asyncio.run(attempts(change=True)) == 2


async def test_certificates_are_changed_and_calls_go_on(tmp_path: Path) -> None:
    """Server and clients get certificates of another authority, as when a private one is replaced."""
    with tls_server("redis7", client_certificates=True) as server:
        options = server.options
        async with Store(server.url, options) as store:
            await store.run(HIT)
            other = Certificates.make(tmp_path)
            server.ask(
                "CONFIG", "SET",
                "tls-cert-file", str(other.server), "tls-key-file", str(other.server_key),
                "tls-ca-cert-file", str(other.ca),
            )  # fmt: skip
            pairs = (options.ca_file, other.ca), (options.client_cert, other.client)
            for target, source in pairs:
                assert target is not None
                shutil.copy(source, target)
            server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            # The key is still the old one: the files don't fit together, so the old ones are shown, and refused.
            with pytest.raises(StoreRefused, match="TLS"):
                await store.run(HIT)
            assert options.client_key is not None
            shutil.copy(other.client_key, options.client_key)
            await store.run(HIT)
            wait_until(lambda: server.ask("INFO", "clients")["connected_clients"] >= 1)

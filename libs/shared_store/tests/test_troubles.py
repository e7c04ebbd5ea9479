"""What does not pass by itself is logged once, and what the server refuses keeps a service from being ready."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from shared_store import rate_limits, troubles
from shared_store.commands import Call, command
from shared_store.errors import CorruptRecord, StoreRefused
from shared_store.mail_queue import MailQueue
from shared_store.rate_limits import Counter
from shared_store.store import Store

COUNTER = Counter("l", ("x",), 5, 60)
READ = Call((command("HGET", "login:{x}", "f"),), lambda replies: replies[0])


@pytest.fixture(autouse=True)
async def nobody(valkey_store: Store) -> AsyncIterator[None]:
    """Leave no user behind: the server is everybody's."""
    yield
    await valkey_store.client.execute_command("ACL", "DELUSER", "troubled")


async def narrow(store: Store, *rules: str) -> None:
    await store.client.execute_command("ACL", "SETUSER", "troubled", "on", ">pw", *rules)


def url_of_narrow(url: str) -> str:
    return url.replace("unix://", "unix://troubled:pw@")


async def test_refused_command_is_logged_once_and_keeps_from_being_ready_until_it_goes_well(
    valkey_url: str, valkey_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await narrow(valkey_store, "resetkeys", "~mail:*", "&*", "+@all")
    async with Store(url_of_narrow(valkey_url)) as store:
        await store.check_ready()
        for _ in range(20):
            with pytest.raises(StoreRefused):
                await store.run(rate_limits.hit([COUNTER]))
        with pytest.raises(StoreRefused, match=r"denies .* sent was the script hit_limit on limit:\{\*\}"):
            await store.check_ready()
        await store.ping()  # it answers, nothing more
        await narrow(valkey_store, "~*")
        await store.run(MailQueue().promote())
        with pytest.raises(StoreRefused, match="hit_limit"):
            await store.check_ready()
        await store.run(rate_limits.hit([COUNTER]))
        await store.check_ready()
    assert [record.getMessage() for record in caplog.records if "hit_limit" in record.getMessage()] != []
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_refusal_that_nobody_tries_again_is_forgotten_after_a_while(
    valkey_url: str, valkey_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await narrow(valkey_store, "resetkeys", "&*", "+@all")
    async with Store(url_of_narrow(valkey_url)) as store:
        with pytest.raises(StoreRefused):
            await store.run(rate_limits.hit([COUNTER]))
        with pytest.raises(StoreRefused):
            await store.check_ready()
        monkeypatch.setattr(troubles, "REFUSED_FOR", 0.0)
        await store.check_ready()


async def test_taking_that_is_refused_keeps_from_being_ready(valkey_url: str, valkey_store: Store) -> None:
    await narrow(valkey_store, "~*", "&*", "+@all", "-blmove")
    async with Store(url_of_narrow(valkey_url)) as store:
        with pytest.raises(StoreRefused):
            await MailQueue().wait_for_job(store, "w", block=0.01)
        with pytest.raises(StoreRefused, match=r"sent was BLMOVE on mail:\{\*\}:ready mail:\{\*\}:taken:\*"):
            await store.check_ready()
        await narrow(valkey_store, "+blmove")
        await MailQueue().wait_for_job(store, "w", block=0.01)
        await store.check_ready()


async def test_password_that_is_refused_is_over_with_the_first_answer(valkey_url: str, valkey_store: Store) -> None:
    await narrow(valkey_store, "~*", "&*", "+@all")
    async with Store(url_of_narrow(valkey_url).replace(":pw@", ":wrong@")) as store:
        with pytest.raises(StoreRefused, match="user or password in redis_url"):
            await store.check_ready()
        await narrow(valkey_store, ">wrong")
        await store.check_ready()


async def test_junk_is_logged_once_with_its_kind_of_key_and_keeps_nobody_from_being_ready(
    valkey_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await valkey_store.client.set("login:{x}", b"\xff" * 1000)
    for _ in range(20):
        with pytest.raises(CorruptRecord, match=r"sent was HGET on login:\{\*\}"):
            await valkey_store.run(READ)
    await valkey_store.check_ready()
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "record_unreadable" in record.getMessage()


async def test_same_trouble_is_logged_again_after_a_minute(
    valkey_store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await valkey_store.client.set("login:{x}", "y")
    monkeypatch.setattr(troubles, "SAY_AGAIN", 0.0)
    for _ in range(3):
        with pytest.raises(CorruptRecord):
            await valkey_store.run(READ)
    assert len(caplog.records) == 3

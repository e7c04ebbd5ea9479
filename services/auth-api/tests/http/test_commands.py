"""`auth-api login`: what an operator sees of a login in flight."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from auth_api.commands import show_login
from auth_api.errors import CommandError
from auth_api.settings import SERVICE, Settings
from service_kit.logs import short_id
from service_kit.settings import load
from shared_store.testing.servers import free_port

if TYPE_CHECKING:
    from tests.http.conftest import Broker


async def test_login_that_redis_can_not_be_asked_for_is_an_error_of_one_line() -> None:
    environ = {"BROKER_REDIS_URL": f"redis://127.0.0.1:{free_port()}", "BROKER_PUBLIC_URL": "http://localhost:3333"}
    with pytest.raises(CommandError, match="Redis can't be reached"):
        await show_login(load(Settings, service=SERVICE, environ=environ), argparse.Namespace(id="unknown"))


async def test_login_is_shown_by_its_short_id_without_code_and_address(
    broker: Broker, valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    session, code = await broker.begin()
    await broker.confirm(session, "wrong")
    environ = {"BROKER_REDIS_URL": valkey_url, "BROKER_PUBLIC_URL": "http://localhost:3333"}
    loaded = load(Settings, service=SERVICE, environ=environ)
    assert await show_login(loaded, argparse.Namespace(id=short_id(session))) == 0
    shown = capsys.readouterr().out
    assert "waits for a code" in shown
    assert "wrong guesses  1" in shown
    assert "…@example.com" in shown
    assert code not in shown
    assert "person" not in shown.lower()
    await broker.confirm(session, code)
    assert await show_login(loaded, argparse.Namespace(id=session)) == 0
    assert "over" in capsys.readouterr().out
    assert await show_login(loaded, argparse.Namespace(id="unknown")) == 1

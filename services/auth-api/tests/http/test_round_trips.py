"""How often a login waits for Redis: at most as often as the budget of the design says."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared_store.commands import Command
from shared_store.store import Store

if TYPE_CHECKING:
    from tests.http.conftest import Broker, MakeBroker

VERIFIER = "v" * 43

Waits = list[tuple["asyncio.Task[Any] | None", list[object]]]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Note the round trips of auth-api's own store, and the task that waits for each."""
    counted: Waits = []
    send = Store._send

    async def counting(self: Store, commands: Sequence[Command], *, durable: bool) -> list[Any]:
        if self.options.client_name == "auth-api":
            counted.append((asyncio.current_task(), [command.words[0] for command in commands]))
        return await send(self, commands, durable=durable)

    monkeypatch.setattr(Store, "_send", counting)
    return counted


def by_request(waits: Waits) -> list[list[object]]:
    """Leave out what goes on beside the requests, which the test's own task makes: pings, refunds."""
    return [words for task, words in waits if words and task is asyncio.current_task()]


async def test_authorization_request_waits_twice(broker: Broker, waits: Waits) -> None:
    await broker.authorize(login_hint="first@example.com")  # finds that the domain has no provider to be asked
    waits.clear()
    await broker.authorize()
    assert len(by_request(waits)) == 2


async def test_asking_whether_mail_came_back_costs_no_wait(make_broker: MakeBroker, waits: Waits) -> None:
    async with make_broker(suppression_key="k" * 32) as broker:
        await broker.authorize(login_hint="first@example.com")
        waits.clear()
        await broker.authorize()
        assert len(by_request(waits)) == 2


async def test_right_code_waits_once_and_refunds_beside_it(make_broker: MakeBroker, waits: Waits) -> None:
    async with make_broker(limits="email:5/m") as broker:
        session, code = await broker.begin()
        waits.clear()
        await broker.confirm(session, code)
        assert len(by_request(waits)) == 1


async def test_code_flow_waits_once_more_and_the_token_endpoint_once(make_broker: MakeBroker, waits: Waits) -> None:
    challenge = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    async with make_broker(limits="email:5/m") as broker:
        session, code = await broker.begin(
            response_type="code", response_mode="query", code_challenge=challenge, code_challenge_method="S256"
        )
        waits.clear()
        answer = await broker.confirm(session, code)
        assert len(by_request(waits)) == 2
        waits.clear()
        auth_code = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]
        form = {"grant_type": "authorization_code", "code": auth_code, "code_verifier": VERIFIER}
        assert (await broker.browser.post("/token", data=form)).status_code == 200
        assert len(by_request(waits)) == 1


async def test_another_mail_waits_three_times_and_once_where_it_is_too_early(
    make_broker: MakeBroker, waits: Waits
) -> None:
    async with make_broker(resend_delay="0") as broker:
        session, _ = await broker.begin()
        waits.clear()
        await broker.browser.post("/resend", data={"session": session})
        assert len(by_request(waits)) == 3
    async with make_broker() as broker:
        session, _ = await broker.begin()
        waits.clear()
        await broker.browser.post("/resend", data={"session": session})
        assert len(by_request(waits)) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_session_and_wrong_code_take_the_same_path(broker: Broker, waits: Waits, method: str) -> None:
    session, _ = await broker.begin()
    paths = []
    for fields in ({"session": session, "code": "aaaaaabbbbbb"}, {"session": "A" * 43, "code": "aaaaaabbbbbb"}):
        waits.clear()
        if method == "GET":
            await broker.browser.get("/confirm", params=fields)
        else:
            await broker.browser.post("/confirm", data={**fields, "device_ok": "1"})
        paths.append(by_request(waits)[0])
    assert paths[0] == paths[1]
    assert len(paths[0]) == 1


@pytest.mark.parametrize("path", ["/resend", "/cancel"])
async def test_session_of_another_browser_and_unknown_one_take_the_same_path(
    broker: Broker, waits: Waits, path: str
) -> None:
    session, _ = await broker.begin()
    somebody = broker.new_browser()
    paths = []
    for wanted in (session, "A" * 43):
        waits.clear()
        await somebody.post(path, data={"session": wanted})
        paths.append(by_request(waits))
    assert paths[0] == paths[1]
    assert len(paths[0]) == 1


async def test_address_in_use_and_new_one_take_the_same_path(broker: Broker, waits: Waits) -> None:
    await broker.begin()
    paths = []
    for address in ("person@example.com", "nobody-yet@example.com"):
        waits.clear()
        await broker.authorize(login_hint=address)
        paths.append(by_request(waits))
    assert paths[0] == paths[1]

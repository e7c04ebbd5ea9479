"""A key that is revoked leaves keys.json of every instance on the notice, and signs no more; without it, soon after."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import jwt
import pytest

from auth_api import keyring
from shared_store.key_sets import KeySet, KeySets
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate

from .conftest import Broker, MakeBroker, keys_for

NOTICE_BOUND = 10.0  # seconds; the poll that makes up for a lost notice comes after 30


async def _kids(broker: Broker) -> list[str]:
    return [key["kid"] for key in (await broker.browser.get("/keys.json")).json()["keys"]]


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(NOTICE_BOUND):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_revoked_key_is_gone_from_all_instances_at_once_and_the_next_one_signs(make_broker: MakeBroker) -> None:
    revoked, following = keys_for("RS256")
    after = KeySet("RS256", 2, following, replace(revoked, key=generate("RS256")), revoked=(revoked.key.kid,))
    async with make_broker() as one:
        session, code = await one.begin(response_mode="fragment")
        async with make_broker() as another:
            assert (await _kids(one))[0] == (await _kids(another))[0] == revoked.key.kid
            await one.store.run(KeySets(Sealer()).replace(after, expected_version=1))
            for broker in (one, another):

                async def gone(broker: Broker = broker) -> bool:
                    return revoked.key.kid not in await _kids(broker)

                await _until(gone)
        answer = await one.confirm(session, code)
        token = answer.headers["Location"].partition("id_token=")[2].partition("&")[0]
        assert jwt.get_unverified_header(token)["kid"] == following.key.kid


@pytest.mark.parametrize(("poll", "is_cut"), [(0.1, False), (3600.0, True)], ids=["now and then", "after a cut"])
async def test_change_whose_notice_was_lost_is_found_by_looking(
    make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch, poll: float, is_cut: bool
) -> None:
    monkeypatch.setattr(keyring, "POLL", poll)
    current, following = keys_for("RS256")
    after = KeySet("RS256", 2, following, replace(current, key=generate("RS256")))
    async with make_broker() as one:
        [name] = await one.store.client.keys("keys:*")
        before = await one.store.client.dump(name)
        await one.store.run(KeySets(Sealer()).replace(after, expected_version=1))
        changed = await one.store.client.dump(name)
        assert before is not None
        assert changed is not None
        await one.store.client.restore(name, 0, before, replace=True)
        async with make_broker() as another:
            assert (await _kids(another))[0] == current.key.kid
            await another.store.client.restore(name, 0, changed, replace=True)  # tells nobody
            if is_cut:
                await another.store.client.execute_command("CLIENT KILL", "TYPE", "pubsub")

            async def found() -> bool:
                return (await _kids(another))[0] == following.key.kid

            await _until(found)

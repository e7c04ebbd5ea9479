"""`mailer suppressions`, as an operator uses it."""

from __future__ import annotations

import json

import pytest

from shared_store.store import Store
from shared_store.suppressions import Reason, Suppressions

from .command_line import Mailer, run

KEY = "a key of at least thirty-two characters"
SUPPRESSIONS = Suppressions(KEY, life=2_592_000)


@pytest.fixture
def mailer(valkey_url: str) -> Mailer:
    made = Mailer(valkey_url)
    made.set(suppression_key=KEY)
    return made


@pytest.mark.setting("suppression_key")
async def test_addresses_are_listed_and_lifted_without_being_shown(mailer: Mailer, valkey_store: Store) -> None:
    entries = [("jane@example.org", Reason.HARD_BOUNCE), ("john@xn--gteborg-90a.test", Reason.COMPLAINT)]
    await valkey_store.run(SUPPRESSIONS.add(entries, source="postmark", now=1_795_000_000))
    status, text = await run(mailer, "suppressions", "list")
    assert (status, len(text.splitlines())) == (0, 2)
    assert "hard_bounce (postmark) since 2026-11-18 11:06Z, 30.0 days left" in text
    status, one = await run(mailer, "suppressions", "list", "--json", "John@Göteborg.test")
    assert (status, json.loads(one)["digest"]) == (0, SUPPRESSIONS.digest("john@xn--gteborg-90a.test"))
    assert "done" in (await run(mailer, "suppressions", "lift", "JOHN@göteborg.test"))[1]
    assert (await run(mailer, "suppressions", "lift", "john@göteborg.test"))[0] == 1
    assert (await run(mailer, "suppressions", "list", "john@göteborg.test")) == (1, "")
    assert not any(name in text + one for name in ("jane", "john", "example.org"))
    assert await valkey_store.run(SUPPRESSIONS.look("jane@example.org"))


async def test_operator_adds_an_address(mailer: Mailer, valkey_store: Store) -> None:
    assert (await run(mailer, "suppressions", "add", "Jane@Example.org"))[0] == 0
    assert await valkey_store.run(SUPPRESSIONS.look("jane@example.org"))
    status, text = await run(mailer, "suppressions", "add", "no address")
    assert (status, "Traceback" in text) == (1, False)


async def test_without_a_key_it_says_what_to_set(valkey_url: str) -> None:
    status, text = await run(Mailer(valkey_url), "suppressions", "list")
    assert (status, "suppression_key is not set" in text) == (1, True)

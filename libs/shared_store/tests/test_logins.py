"""Logins in flight: every answer of every script, on every server."""

from __future__ import annotations

import json
from typing import cast

import pytest

from shared_store import logins
from shared_store.errors import CorruptRecord
from shared_store.keyspace import LOGIN
from shared_store.logins import CodeStatus, ResendStatus, SessionId, StoredLogin, new_operation_id, new_session_id
from shared_store.store import Store

LOGIN_DATA = StoredLogin(request='{"client_id":"https://site.example"}', data='{"email":"é@example.org"}')
SECRET = logins.new_browser_secret()


async def saved(store: Store, *, code: str = "abc123", ttl: float = 900) -> SessionId:
    session = new_session_id()
    await store.run(logins.save_for_code(session, LOGIN_DATA, code=code, browser_secret=SECRET, ttl=ttl))
    return session


async def state(store: Store, session: SessionId) -> dict[bytes, bytes]:
    """What lies in Redis for a login."""
    return cast("dict[bytes, bytes]", await store.client.hgetall(LOGIN.key(session=session)))


async def test_saved_login_can_be_read_and_lives_its_time(store: Store) -> None:
    session = await saved(store, ttl=900)
    assert await store.run(logins.load(session)) == LOGIN_DATA
    assert 890_000 < await store.client.pttl(LOGIN.key(session=session)) <= 900_000


async def test_unknown_login_is_gone_for_every_call(store: Store) -> None:
    session = new_session_id()
    assert await store.run(logins.load(session)) is None
    check = await store.run(logins.look_at_code(session, "abc123", guesses=3))
    assert (check.status, check.login) == (CodeStatus.GONE, None)
    check = await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="a"))
    assert check.status is CodeStatus.GONE
    assert await store.run(logins.consume(session, operation="a")) is None
    assert await store.run(logins.cancel(session, browser_secret=SECRET, operation="a")) is None
    call = logins.allow_resend(session, browser_secret=SECRET, delay=1, mails=3, operation="a")
    assert (await store.run(call)).status is ResendStatus.GONE


async def test_save_sent_again_changes_nothing(store: Store) -> None:
    session = new_session_id()
    call = logins.save_for_code(session, LOGIN_DATA, code="abc123", browser_secret=SECRET, ttl=900)
    await store.run(call)
    before = await state(store, session)
    await store.run(call)
    assert await state(store, session) == before


async def test_save_sent_again_after_the_login_was_consumed_does_not_revive_it(store: Store) -> None:
    session = new_session_id()
    call = logins.save_for_code(session, LOGIN_DATA, code="abc123", browser_secret=SECRET, ttl=900)
    await store.run(call)
    await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="a"))
    await store.run(call)
    assert b"code" not in await state(store, session)
    assert await store.client.pttl(LOGIN.key(session=session)) <= logins.CONSUMED_FOR


async def test_right_code_can_be_looked_at_without_consuming_the_login(store: Store) -> None:
    session = await saved(store)
    for _ in range(2):
        check = await store.run(logins.look_at_code(session, "abc123", guesses=3))
        assert (check.status, check.guesses_left, check.login) == (CodeStatus.RIGHT, 3, LOGIN_DATA)
        assert check.began_in(SECRET)
        assert not check.began_in("another browser's")
    assert await store.run(logins.load(session)) == LOGIN_DATA


async def test_right_code_consumes_the_login_and_its_repetition_gets_the_same_answer(store: Store) -> None:
    session = await saved(store)
    operation = new_operation_id()
    first = await store.run(logins.confirm_code(session, "abc123", guesses=3, operation=operation))
    after = await state(store, session)
    again = await store.run(logins.confirm_code(session, "abc123", guesses=3, operation=operation))
    assert first.status is again.status is CodeStatus.RIGHT
    assert first.login == again.login == LOGIN_DATA
    assert first.browser_hash == again.browser_hash == logins.browser_hash(SECRET)
    assert await state(store, session) == after
    assert not set(after) & {b"code", b"sealed"}
    assert 0 < await store.client.pttl(LOGIN.key(session=session)) <= logins.CONSUMED_FOR


async def test_consumed_login_is_gone_for_every_other_operation(store: Store) -> None:
    session = await saved(store)
    await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="a"))
    check = await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="b"))
    assert (check.status, check.login) == (CodeStatus.GONE, None)
    assert (await store.run(logins.look_at_code(session, "abc123", guesses=3))).status is CodeStatus.GONE
    assert await store.run(logins.load(session)) is None
    assert await store.run(logins.consume(session, operation="b")) is None
    call = logins.allow_resend(session, browser_secret=SECRET, delay=0, mails=3, operation="b")
    assert (await store.run(call)).status is ResendStatus.GONE


async def test_wrong_codes_are_counted_and_the_last_ends_the_login(store: Store) -> None:
    session = await saved(store)
    answers = [await store.run(logins.look_at_code(session, "wrong", guesses=3)) for _ in range(4)]
    told = [(answer.status, answer.guesses_left) for answer in answers]
    assert told == [(CodeStatus.WRONG, 2), (CodeStatus.WRONG, 1), (CodeStatus.ENDED, 0), (CodeStatus.GONE, 0)]
    assert answers[0].login == answers[2].login == LOGIN_DATA
    assert not set(await state(store, session)) & {b"code", b"sealed"}
    assert 0 < await store.client.pttl(LOGIN.key(session=session)) <= logins.CONSUMED_FOR
    assert await store.run(logins.load(session)) is None


async def test_wrong_code_sent_again_counts_once_and_gets_the_same_answer(store: Store) -> None:
    session = await saved(store)
    for status, left in ((CodeStatus.WRONG, 2), (CodeStatus.WRONG, 1), (CodeStatus.ENDED, 0)):
        call = logins.look_at_code(session, "wrong", guesses=3)
        for _ in range(2):
            check = await store.run(call)
            assert (check.status, check.guesses_left, check.login) == (status, left, LOGIN_DATA)
    assert (await store.run(logins.look_at_code(session, "abc123", guesses=3))).status is CodeStatus.GONE


async def test_right_code_after_a_wrong_one_tells_the_guesses_left(store: Store) -> None:
    session = await saved(store)
    await store.run(logins.confirm_code(session, "wrong", guesses=3, operation="a"))
    check = await store.run(logins.look_at_code(session, "abc123", guesses=3))
    assert (check.status, check.guesses_left) == (CodeStatus.RIGHT, 2)
    assert await store.client.pttl(LOGIN.key(session=session)) > 30_000


async def test_code_of_another_login_is_wrong(store: Store) -> None:
    first, second = await saved(store, code="111111"), await saved(store, code="222222")
    assert (await store.run(logins.look_at_code(first, "222222", guesses=3))).status is CodeStatus.WRONG
    assert (await store.run(logins.look_at_code(second, "222222", guesses=3))).status is CodeStatus.RIGHT


async def test_code_for_a_login_that_waits_for_a_provider_is_told_as_other(store: Store) -> None:
    session = new_session_id()
    await store.run(logins.save_for_provider(session, LOGIN_DATA, ttl=900))
    check = await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="a"))
    assert (check.status, check.login) == (CodeStatus.OTHER, None)
    assert await store.run(logins.load(session)) == LOGIN_DATA


async def test_consume_gives_the_login_to_one_operation_alone(store: Store) -> None:
    session = new_session_id()
    await store.run(logins.save_for_provider(session, LOGIN_DATA, ttl=900))
    assert await store.run(logins.consume(session, operation="a")) == LOGIN_DATA
    assert await store.run(logins.consume(session, operation="a")) == LOGIN_DATA
    assert await store.run(logins.consume(session, operation="b")) is None


async def test_cancel_is_for_the_browser_that_began_the_login(store: Store) -> None:
    session = await saved(store)
    other = logins.new_browser_secret()
    assert await store.run(logins.cancel(session, browser_secret=other, operation="a")) is None
    assert await store.run(logins.load(session)) == LOGIN_DATA
    assert await store.run(logins.cancel(session, browser_secret=SECRET, operation="b")) == LOGIN_DATA
    assert await store.run(logins.cancel(session, browser_secret=SECRET, operation="b")) == LOGIN_DATA
    assert await store.run(logins.load(session)) is None


async def test_login_at_a_provider_has_no_browser_to_cancel_it(store: Store) -> None:
    session = new_session_id()
    await store.run(logins.save_for_provider(session, LOGIN_DATA, ttl=900))
    assert await store.run(logins.cancel(session, browser_secret="", operation="a")) is None


async def test_resend_waits_its_delay_and_ends_at_the_bound(store: Store) -> None:
    session = await saved(store)

    wait = await store.run(logins.allow_resend(session, browser_secret=SECRET, delay=60, mails=3, operation="a"))
    assert wait.status is ResendStatus.WAIT
    assert 0 < wait.wait <= 60
    for operation, sends in (("b", 2), ("c", 3)):
        call = logins.allow_resend(session, browser_secret=SECRET, delay=0, mails=3, operation=operation)
        send = await store.run(call)
        assert (send.status, send.sends, send.login) == (ResendStatus.SEND, sends, LOGIN_DATA)
        assert logins.open_code(send.sealed_code, SECRET) == "abc123"
        assert 800 < send.life_left <= 900
        before = await state(store, session)
        again = await store.run(call)
        assert (again.status, again.sends, again.sealed_code) == (send.status, send.sends, send.sealed_code)
        assert await state(store, session) == before
    spent = await store.run(logins.allow_resend(session, browser_secret=SECRET, delay=0, mails=3, operation="d"))
    assert (spent.status, spent.sealed_code) == (ResendStatus.SPENT, b"")


async def test_resend_asked_by_another_browser_gets_nothing(store: Store) -> None:
    session = await saved(store)
    other = logins.new_browser_secret()
    answer = await store.run(logins.allow_resend(session, browser_secret=other, delay=0, mails=3, operation="a"))
    assert (answer.status, answer.login, answer.sealed_code) == (ResendStatus.OTHER, None, b"")


async def test_code_lies_in_redis_only_as_hash_and_sealed(store: Store) -> None:
    session = await saved(store, code="q7x2m9")
    values = b"".join((await state(store, session)).values())
    assert b"q7x2m9" not in values
    assert SECRET.encode() not in values


async def test_login_in_flight_takes_less_than_1500_bytes(store: Store) -> None:
    request = json.dumps(
        {"client_id": "https://site.example", "redirect_uri": "https://site.example/callback", "nonce": "n" * 64}
    )
    data = json.dumps({"email": "somebody@example.org", "locale": "fr-CA", "job": "j" * 24})
    session = new_session_id()
    call = logins.save_for_code(session, StoredLogin(request, data), code="abc123", browser_secret=SECRET, ttl=900)
    await store.run(call)
    assert await store.client.execute_command("MEMORY USAGE", LOGIN.key(session=session)) < 1500


def test_sealed_code_opens_for_its_browser_alone() -> None:
    sealed = logins.seal_code("abc123", SECRET)
    assert logins.open_code(sealed, SECRET) == "abc123"
    for wrong in (sealed[:-1], b"", sealed + b"x"):
        with pytest.raises(CorruptRecord):
            logins.open_code(wrong, SECRET)
    with pytest.raises(CorruptRecord):
        logins.open_code(sealed, logins.new_browser_secret())


@pytest.mark.parametrize("text", ["", "a" * 42, "a" * 44, "a" * 42 + "{", "a" * 42 + "\n", "é" * 43, "a" * 43 + "\n"])
def test_text_that_is_no_session_id_is_refused(text: str) -> None:
    assert logins.parse_session_id(text) is None


def test_new_session_ids_are_read_back() -> None:
    session = new_session_id()
    assert logins.parse_session_id(session) == session


@pytest.mark.parametrize(
    "fields",
    [
        {"request": b"\xff", "data": b"{}", "code": b"x"},
        {"request": b"{}", "code": b"x", "wrong": b"1"},
        {"request": b"{}", "data": b"{}", "code": b"x", "wrong": b"junk"},
    ],
)
async def test_junk_in_a_login_is_told_as_corrupt(store: Store, fields: dict[str, bytes]) -> None:
    session = new_session_id()
    for name, value in fields.items():
        await store.client.hset(LOGIN.key(session=session), name, value)
    with pytest.raises(CorruptRecord):
        await store.run(logins.confirm_code(session, "abc123", guesses=3, operation="a"))


async def test_junk_in_what_a_resend_needs_is_told_as_corrupt(store: Store) -> None:
    session = await saved(store)
    await store.client.hset(LOGIN.key(session=session), "sent", "junk")
    with pytest.raises(CorruptRecord):
        await store.run(logins.allow_resend(session, browser_secret=SECRET, delay=1, mails=3, operation="a"))


async def test_another_type_under_a_login_key_is_told_as_corrupt(store: Store) -> None:
    session = new_session_id()
    await store.client.set(LOGIN.key(session=session), "a string")
    calls = (
        logins.load(session),
        logins.look_at_code(session, "abc123", guesses=3),
        logins.consume(session, operation="a"),
        logins.allow_resend(session, browser_secret=SECRET, delay=1, mails=3, operation="a"),
    )
    for call in calls:
        with pytest.raises(CorruptRecord):
            await store.run(call)

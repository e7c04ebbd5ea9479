"""Authorization codes and access tokens, on every server."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_store import auth_codes
from shared_store.auth_codes import new_access_token, new_auth_code
from shared_store.commands import Call
from shared_store.errors import CorruptRecord
from shared_store.keyspace import ACCESS_TOKEN, AUTH_CODE
from shared_store.store import Store
from shared_store.testing.deployments import Deployment


def take(code: str, token: str, operation: str) -> Call[auth_codes.Redeemed | None]:
    return auth_codes.take(code, access_token=token, access_ttl=600, operation=operation)


async def saved(store: Store) -> tuple[str, str]:
    code = new_auth_code()
    await store.run(auth_codes.save(code, grant='{"g":"é"}', claims='{"sub":"é"}', ttl=60))
    return code, new_access_token(code)


async def test_code_is_redeemed_once_and_its_repetition_gets_the_same_answer(store: Store) -> None:
    code, token = await saved(store)
    first = await store.run(take(code, token, "a"))
    keys = [AUTH_CODE.key(digest=token[:43]), ACCESS_TOKEN.key(digest=token[:43])]
    state = [await store.client.hgetall(key) for key in keys]
    again = await store.run(take(code, token, "a"))
    assert first is not None
    assert again is not None
    assert first.grant == again.grant == '{"g":"é"}'
    assert abs(first.time - time.time()) < 60
    assert [await store.client.hgetall(key) for key in keys] == state
    assert 0 < await store.client.pttl(keys[0]) <= auth_codes.REDEEMED_FOR
    assert 590_000 < await store.client.pttl(keys[1]) <= 600_000
    assert await store.run(auth_codes.read_claims(token)) == '{"sub":"é"}'


async def test_code_presented_twice_is_refused_and_takes_its_access_token_along(store: Store) -> None:
    code, token = await saved(store)
    await store.run(take(code, token, "a"))
    assert await store.run(take(code, new_access_token(code), "b")) is None
    assert await store.run(auth_codes.read_claims(token)) is None


async def test_unknown_code_is_refused(store: Store, any_server: Deployment) -> None:
    code = new_auth_code()
    assert await store.run(take(code, new_access_token(code), "a")) is None
    assert not any_server.keys()


async def test_save_sent_again_does_not_revive_a_redeemed_code(store: Store) -> None:
    code = new_auth_code()
    call = auth_codes.save(code, grant="g", claims="c", ttl=60)
    await store.run(call)
    await store.run(take(code, new_access_token(code), "a"))
    await store.run(call)
    assert await store.run(take(code, new_access_token(code), "b")) is None
    assert await store.client.pttl(AUTH_CODE.key(digest=new_access_token(code)[:43])) <= auth_codes.REDEEMED_FOR


async def test_neither_code_nor_token_lies_in_redis(store: Store, any_server: Deployment) -> None:
    code, token = await saved(store)
    await store.run(take(code, token, "a"))
    digest, secret = token.split(".")
    keys = any_server.keys()
    everything = repr(keys) + repr([await store.client.hgetall(key) for key in keys])
    assert code not in everything
    assert secret not in everything
    assert digest in everything


async def test_token_with_another_secret_tells_nothing(store: Store) -> None:
    code, token = await saved(store)
    await store.run(take(code, token, "a"))
    assert await store.run(auth_codes.read_claims(new_access_token(code))) is None
    assert await store.run(auth_codes.read_claims(token[:-1] + ("A" if token[-1] != "A" else "B"))) is None


@given(st.text(max_size=120))
def test_text_that_is_no_access_token_asks_redis_nothing(text: str) -> None:
    call = auth_codes.read_claims(text)
    assert call.commands == ()
    assert call.decode([]) is None


@given(st.text(max_size=60))
def test_any_text_can_be_brought_as_a_code(code: str) -> None:
    [command] = take(code, new_access_token(code), "a").commands
    assert str(command.words[3]).startswith("authcode:{")


async def test_junk_under_a_code_is_told_as_corrupt(store: Store) -> None:
    code = new_auth_code()
    digest = new_access_token(code)[:43]
    await store.client.hset(AUTH_CODE.key(digest=digest), mapping={"grant": b"\xff", "claims": b"c"})
    with pytest.raises(CorruptRecord):
        await store.run(take(code, new_access_token(code), "a"))
    await store.client.delete(AUTH_CODE.key(digest=digest))
    await store.client.set(AUTH_CODE.key(digest=digest), "a string")
    with pytest.raises(CorruptRecord):
        await store.run(take(code, new_access_token(code), "a"))

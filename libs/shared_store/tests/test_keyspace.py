"""The map of keys: after everything has been done once, each key there is, is one that the map names."""

from __future__ import annotations

import re
import string
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared_store import auth_codes, fetch_cache, logins, rate_limits
from shared_store.dead_letters import DeadJob
from shared_store.document_keys import DOCUMENT, table
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.keyspace import KEYS, KeyPattern, digest
from shared_store.locks import Locks
from shared_store.logins import StoredLogin, new_session_id
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.notices import Notices
from shared_store.rate_limits import Counter
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate
from shared_store.store import Store
from shared_store.suppressions import Reason, Suppressions, remember_webhook
from shared_store.testing.deployments import Deployment


def job(number: int) -> MailJob:
    return MailJob(f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


async def do_everything_once(store: Store) -> None:
    login = StoredLogin("{}", "{}")
    sessions = [new_session_id() for _ in range(5)]
    for session in sessions:
        await store.run(logins.save_for_code(session, login, code="a", browser_secret="b", ttl=900))
    await store.run(logins.confirm_code(sessions[0], "a", guesses=3, operation="a"))
    await store.run(logins.confirm_code(sessions[1], "x", guesses=3, operation="a"))
    await store.run(logins.confirm_code(sessions[2], "x", guesses=1, operation="a"))
    await store.run(logins.allow_resend(sessions[3], browser_secret="b", delay=0, mails=3, operation="a"))
    await store.run(logins.cancel(sessions[4], browser_secret="b", operation="a"))
    await store.run(logins.save_for_provider(new_session_id(), login, ttl=900))

    for _ in range(2):
        code = auth_codes.new_auth_code()
        await store.run(auth_codes.save(code, grant="g", claims="c", ttl=600))
    token = auth_codes.new_access_token(code)
    await store.run(auth_codes.take(code, access_token=token, access_ttl=600, operation="a"))

    counters = [Counter("l", (str(number),), 5, 60, extend_window=bool(number % 2)) for number in range(4)]
    for _ in range(3):
        await store.run(rate_limits.hit(counters))
    await store.run(rate_limits.refund([counter.key for counter in counters]))
    await store.run(fetch_cache.write("https://a", "document", fresh=60, stale=60))
    await store.run(fetch_cache.write_failure("https://a", "failure", keep=30))
    await store.run(fetch_cache.write_failure("https://b", "failure", keep=30))
    await Locks(store, Notices(store)).try_take("rotation", ttl=20)
    key = PublishedKey(generate("EdDSA"), 0, 0, 1)
    await store.run(KeySets(Sealer()).replace(KeySet("EdDSA", 1, key, key), expected_version=0))

    queue = MailQueue()
    for number in range(6):
        await store.run(queue.enqueue(job(number), bound=100))
    for worker in ("quick", "dying", "slow"):
        await store.run(queue.register(worker, lease=60))
    await store.run(queue.claim("dying", room=1, known=[]))
    await store.run(queue.register("dying", lease=0))
    await store.run(queue.reap("dying"))
    await store.run(queue.claim("quick", room=3, known=[]))
    await store.run(queue.finish("quick", "job-0", Outcome.DELIVERED))
    await store.run(queue.bury("quick", DeadJob.of(job(1), "rejected", 1.0), Outcome.REJECTED))
    await store.run(queue.delay("quick", job(2), seconds=60))
    await store.run(queue.claim("dying", room=1, known=[]))
    await store.run(queue.register("dying", lease=0))
    await store.run(queue.claim("slow", room=1, known=[]))
    await store.run(queue.register("slow", lease=0))
    await store.run(queue.reap("slow"))
    await store.run(queue.register("slow", lease=60))
    await store.run(queue.claim("slow", room=1, known=[]))
    await store.run(queue.enqueue(replace(job(9), id=new_job_id("session")), bound=100))

    suppressions = Suppressions("k" * 32, life=60)
    await store.run(suppressions.add([("a@b.example", Reason.OPERATOR)], source="operator", now=1.0))
    await store.run(remember_webhook("w", seconds=60))


def matching(key: str) -> KeyPattern:
    """Find the one pattern that a key is of."""

    def expression(pattern: KeyPattern) -> str:
        words = string.Formatter().parse(pattern.pattern)
        return "".join(re.escape(text) + ("[^{}]+" if name is not None else "") for text, name, _, _ in words)

    [found] = [pattern for pattern in KEYS if re.fullmatch(expression(pattern), key)]
    return found


async def test_every_key_is_on_the_map_with_its_type_and_a_ttl_where_the_map_says_so(
    store: Store, any_server: Deployment
) -> None:
    await do_everything_once(store)
    seen = set()
    for key, server in any_server.keys().items():
        pattern = matching(key)
        seen.add(pattern.pattern)
        assert server.ask("TYPE", key).decode().upper() == pattern.type, key
        assert (server.ask("TTL", key) >= 0) == (pattern.ttl is not None), key
    assert seen == {pattern.pattern for pattern in KEYS}


def test_every_key_has_one_hash_tag() -> None:
    for pattern in KEYS:
        names = [name for _, name, _, _ in string.Formatter().parse(pattern.pattern) if name]
        key = pattern.key(**dict.fromkeys(names, "x"))
        assert key.count("{") == key.count("}") == 1, key
        assert re.search(r"\{[^{}]+\}", key)


def test_patterns_are_apart_and_say_whose_they_are() -> None:
    for pattern in KEYS:
        assert pattern.writers
        assert pattern.readers
        assert pattern.why
        assert {*pattern.writers, *pattern.readers} <= {"auth-api", "mailer", "key-rotator"}


@given(st.lists(st.text()))
def test_digest_of_any_text_is_fit_for_a_key(parts: list[str]) -> None:
    assert re.fullmatch("[0-9a-f]{32}", digest(*parts))


def test_document_of_keys_is_current() -> None:
    assert DOCUMENT.read_text() == table(), "run python -m shared_store.document_keys"

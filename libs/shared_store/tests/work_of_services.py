"""What each service asks of the store, once each: under its own user it is allowed, and with a right less not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from shared_store import auth_codes, fetch_cache, key_log, logins, rate_limits
from shared_store.commands import Call, command, nothing
from shared_store.dead_letters import DeadJob
from shared_store.key_log import KeyEvent
from shared_store.key_sets import KeySet, KeySets, PublishedKey
from shared_store.keyspace import (
    KEY_LOG,
    KEY_SET,
    KEYS_UPDATED_CHANNEL,
    MAIL_DEATHS,
    MAIL_LOGINS,
    UNLOCKED_CHANNEL,
    mail_result_channel,
)
from shared_store.locks import Locks
from shared_store.logins import StoredLogin, new_session_id
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_mending import mend
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.mail_shards import MOST_SHARDS, queue_tags, tags_with
from shared_store.mail_whereabouts import count_mailers, find_job, list_jobs
from shared_store.notices import Notices
from shared_store.rate_limits import Counter
from shared_store.sealing import Sealer
from shared_store.signing_keys import generate
from shared_store.store import Store
from shared_store.suppressions import Reason, Suppressions, remember_webhook, webhook_seen

Work = Callable[[Store, Store], Awaitable[None]]  # by the service's user, and by one that may do everything

LOGIN = StoredLogin("{}", "{}")
QUEUE = MailQueue()
KEY = PublishedKey(generate("EdDSA"), 0, 0, 1)
KEY_SETS = KeySets(Sealer())
SUPPRESSIONS = Suppressions("k" * 32, life=60)


def replicated(call: Call[Any]) -> Call[None]:
    """A write with what follows it where redis_wait_replicas asks replicas for it."""
    return Call((*call.commands, command("WAIT", 0, 0)), nothing)


def job(number: int) -> MailJob:
    return MailJob(f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


def job_of_login(session: str) -> MailJob:
    return replace(job(0), id=new_job_id(session))


async def hear(store: Store, *channels: str) -> None:
    """Subscribe, or fail as the server refuses it."""
    async with Notices(store)._pubsub(store.client) as pubsub:
        await pubsub.subscribe(*channels)
        async with asyncio.timeout(5):
            for _ in channels:
                while await pubsub.get_message(timeout=1) is None:
                    pass


async def auth_api(store: Store, other: Store) -> None:
    await store.ping()
    sessions = [new_session_id() for _ in range(5)]
    for session in sessions:
        await store.run(logins.save_for_code(session, LOGIN, code="a", browser_secret="b", ttl=900))
    await store.run(logins.confirm_code(sessions[0], "a", guesses=3, operation="a"))
    await store.run(logins.confirm_code(sessions[1], "x", guesses=3, operation="a"))
    await store.run(logins.confirm_code(sessions[2], "x", guesses=1, operation="a"))
    await store.run(logins.allow_resend(sessions[3], browser_secret="b", delay=0, mails=3, operation="a"))
    await store.run(logins.load(sessions[3]))
    await logins.find(store, lambda session: session == sessions[3])
    await store.run(logins.cancel(sessions[4], browser_secret="b", operation="a"))
    await store.run(logins.save_for_provider(new_session_id(), LOGIN, ttl=900))

    code = auth_codes.new_auth_code()
    token = auth_codes.new_access_token(code)
    await store.run(auth_codes.save(code, grant="g", claims="c", ttl=600))
    for operation in ("a", "b"):
        await store.run(auth_codes.take(code, access_token=token, access_ttl=600, operation=operation))
    await store.run(auth_codes.read_claims(token))

    counters = [Counter("l", (str(number),), 5, 60) for number in range(2)]
    await store.run(rate_limits.hit([*counters, counters[0]]))
    await store.run(rate_limits.look(counters))
    await store.run(rate_limits.refund([counter.key for counter in counters]))
    await store.run(fetch_cache.write("https://a", "document", fresh=60, stale=60))
    await store.run(fetch_cache.write_failure("https://a", "failure", keep=30))
    await store.run(fetch_cache.read("https://a"))
    await store.run(fetch_cache.forget("https://a"))
    await lock(store, "fetch")

    await other.run(KEY_SETS.replace(KeySet("EdDSA", 1, KEY, KEY), expected_version=0))
    await store.run(KEY_SETS.load("EdDSA"))
    await newer_mails_take_the_place_of_older_ones(store, other)
    await store.run(QUEUE.result("job-1"))
    await store.run(SUPPRESSIONS.add([("a@b.example", Reason.HARD_BOUNCE)], source="postmark", now=1.0))
    await store.run(SUPPRESSIONS.look("a@b.example"))
    await store.run(remember_webhook("signature", seconds=60))
    await store.run(webhook_seen("signature"))
    await store.run(replicated(logins.save_for_provider(new_session_id(), LOGIN, ttl=900)))
    await hear(store, KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL, mail_result_channel("x"))


async def newer_mails_take_the_place_of_older_ones(store: Store, other: Store) -> None:
    in_line, in_hand, delayed = "in-line", "in-hand", "delayed"
    await other.run(QUEUE.register("other", lease=60))
    for login in (in_hand, delayed):
        await store.run(QUEUE.enqueue(job_of_login(login), bound=100))
    await other.run(QUEUE.claim("other", room=1, known=[]))
    claim = await other.run(QUEUE.claim("other", room=2, known=[]))
    assert claim is not None
    put_off = MailJob.from_json(claim.jobs[-1].raw or b"")
    await other.run(QUEUE.reap("other"))
    await other.run(QUEUE.delay("other", put_off, seconds=60))
    # One job has killed a worker before: how many died goes over to the newer one.
    await other.client.hset(MAIL_DEATHS.key(tag="mail"), put_off.id, "1")
    for login in (in_line, in_line, in_hand, in_hand, in_hand, delayed):
        await store.run(QUEUE.enqueue(job_of_login(login), bound=100))


async def mailer(store: Store, other: Store) -> None:
    await store.ping()
    login = [job_of_login(f"session-{number}") for number in range(4)]
    for one in login:
        await other.run(QUEUE.enqueue(one, bound=100))
    for number in range(4):
        await other.run(QUEUE.enqueue(job(number), bound=100))
    await store.run(QUEUE.register("mine", lease=60))
    await QUEUE.wait_for_job(store, "mine", block=0.1)
    await store.run(QUEUE.claim("mine", room=6, known=[]))
    for number in range(4):
        await other.run(QUEUE.enqueue(job_of_login(f"session-{number}"), bound=100))
    await store.run(QUEUE.finish("mine", login[0].id, Outcome.DELIVERED, tell=mail_result_channel("x")))
    await store.run(QUEUE.bury("mine", DeadJob.of(login[1], "rejected", 1.0), Outcome.REJECTED))
    await store.run(QUEUE.delay("mine", login[2], seconds=0))
    await store.run(QUEUE.delay("mine", job(0), seconds=60))
    await store.run(QUEUE.promote())
    await store.run(QUEUE.waiting(most=10))
    await store.run(tags_with(queue_tags(MOST_SHARDS), dead=True))
    await list_jobs(store, QUEUE, most=10)
    await find_job(store, QUEUE, "job-1")
    await count_mailers(store, QUEUE)
    for _ in range(2):
        await store.run(QUEUE.retry_now("job-0"))
    await store.run(QUEUE.drop("job-0"))
    await store.run(QUEUE.show("job-1"))
    await store.run(QUEUE.renew("mine", lease=60))
    await QUEUE.depth(store)
    await store.run(QUEUE.register("dead", lease=0))
    await store.run(QUEUE.claim("dead", room=2, known=[]))
    await store.run(QUEUE.expired_workers())
    await store.run(QUEUE.gone_workers())
    await store.run(QUEUE.reap("dead"))
    await store.run(QUEUE.give_back("mine"))
    await store.run(QUEUE.dead_letters())
    await store.run(QUEUE.purge_dead())
    await store.run(SUPPRESSIONS.add([("a@b.example", Reason.OPERATOR)], source="operator", now=1.0))
    assert len(await SUPPRESSIONS.all(store)) == 1
    await store.run(SUPPRESSIONS.lift("a@b.example"))
    await other.client.set(MAIL_LOGINS.key(tag="mail"), "junk")
    assert (await mend(store, "mail")).keys
    await store.run(replicated(QUEUE.renew("mine", lease=60)))
    await lock(store, "reaper")


async def key_rotator(store: Store, other: Store) -> None:
    await store.ping()
    # Something else wrote under the keys' names: it is replaced.
    for name in (KEY_SET.key(alg="EdDSA"), KEY_LOG.key(alg="EdDSA")):
        await other.client.set(name, "junk")
    await store.run(KEY_SETS.replace(KeySet("EdDSA", 1, KEY, KEY), expected_version=None))
    await store.run(KEY_SETS.load("EdDSA"))
    await store.run(KEY_SETS.version("EdDSA"))
    await store.run(key_log.log_event("EdDSA", KeyEvent("export", by="me")))
    await store.run(key_log.logged("EdDSA"))
    await store.run(replicated(key_log.log_event("EdDSA", KeyEvent("export", by="me"))))
    await lock(store, "rotation")
    await hear(store, KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL)


async def lock(store: Store, name: str) -> None:
    locks = Locks(store, Notices(store))
    held = await locks.try_take(name, ttl=20)
    assert held is not None
    await locks.extend(held)
    await locks.release(held)


WORK: Mapping[str, Work] = MappingProxyType({"auth-api": auth_api, "mailer": mailer, "key-rotator": key_rotator})

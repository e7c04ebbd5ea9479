"""Who waits for other servers, how often they are asked: over several instances, many logins, and servers that hang."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest

from auth_api.addresses import parse_address
from auth_api.discovery.webfinger import webfinger_url
from shared_store import fetch_cache
from shared_store.fetch_cache import CachedFetch
from shared_store.keyspace import FETCH, digest

if TYPE_CHECKING:
    import httpx
    from tests.conftest import Internet
    from tests.http.conftest import Broker, MakeBroker

    from shared_store.store import Store

IDP = "login.mail.example"
DOMAIN = "acme.mail.example"
WEBFINGER = "/.well-known/webfinger"
CONFIGURATION = "/.well-known/openid-configuration"
CONFIGURATION_URL = f"https://{IDP}{CONFIGURATION}"
WEBFINGER_URL = webfinger_url(parse_address(f"a@{DOMAIN}"))
KEYS_NAME = f"keys https://{IDP}/keys"
GONE = f"webfinger:{DOMAIN}"  # what a domain's own failure is kept under


async def log_in(broker: Broker, address: str = f"a@{DOMAIN}", **more: str) -> httpx.Response:
    return await broker.authorize(login_hint=address, **more)


async def make_stale(store: Store, name: str) -> None:
    """Let the fresh life of an entry be over, as after an hour."""
    key = FETCH.key(digest=digest(name))
    await store.client.hset(key, "stale", await store.client.pttl(key) + 1000)


async def known(store: Store, name: str) -> CachedFetch | None:
    return await store.run(fetch_cache.read(name))


async def until_known(store: Store, name: str, *, document: bool) -> None:
    async with asyncio.timeout(20):
        while True:
            entry = await known(store, name)
            if entry is not None and entry.fresh and (entry.document is not None) == document:
                return
            await asyncio.sleep(0.01)


async def test_each_url_is_fetched_once_for_fifty_logins_over_three_instances(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with contextlib.AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(make_broker(http=internet.http())) for _ in range(3)]
        answers = await asyncio.gather(*(log_in(brokers[i % 3]) for i in range(50)))
    assert {answer.status_code for answer in answers} == {303}
    assert (internet.asked(DOMAIN), internet.asked(IDP, CONFIGURATION), internet.asked(IDP, "/keys")) == (1, 1, 1)


async def test_provider_of_many_addresses_is_fetched_once_and_webfinger_for_each_address(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(http=internet.http()) as broker:
        await asyncio.gather(*(log_in(broker, f"a{i}@{DOMAIN}") for i in range(20)))
        await asyncio.gather(*(log_in(broker, f"a{i}@{DOMAIN}") for i in range(20)))
    assert (internet.asked(DOMAIN), internet.asked(IDP, CONFIGURATION), internet.asked(IDP, "/keys")) == (20, 1, 1)


async def test_domain_that_hangs_delays_the_first_login_and_no_later_one_of_any_address(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN).hold = asyncio.Event()
    async with make_broker(http=internet.http(), webfinger_timeout="1", discovery_timeout="1") as broker:
        assert (await log_in(broker)).status_code == 200
        await until_known(broker.store, GONE, document=False)
        for i in range(10):
            assert (await log_in(broker, f"a{i}@{DOMAIN}")).status_code == 200
        assert internet.asked(DOMAIN) == 1
        # A minute later it is asked again, but nobody waits for that: the mail goes out while it is asked.
        await make_stale(broker.store, GONE)
        assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 200
        await internet.until_asked(DOMAIN, times=2)
        assert len(broker.postbox.mails) == 12


async def test_search_goes_on_after_its_person_got_a_mail_and_the_next_one_is_sent_to_the_provider(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    slow = internet.replies[IDP, CONFIGURATION].hold = asyncio.Event()
    async with make_broker(http=internet.http(), discovery_timeout="1", oidc_config_timeout="60") as broker:
        assert (await log_in(broker)).status_code == 200
        slow.set()
        await internet.until_asked(IDP, "/keys")
        await until_known(broker.store, f"keys https://{IDP}/keys", document=True)
        assert (await log_in(broker)).status_code == 303
    assert internet.asked(IDP, CONFIGURATION) == 1


async def test_stale_document_is_used_at_once_and_refreshed_beside(make_broker: MakeBroker, internet: Internet) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(http=internet.http()) as broker:
        await log_in(broker)
        held = internet.replies[IDP, CONFIGURATION].hold = asyncio.Event()
        await make_stale(broker.store, CONFIGURATION_URL)
        answers = await asyncio.gather(*(log_in(broker) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {303}
        await internet.until_asked(IDP, CONFIGURATION, times=2)
        held.set()
        await until_known(broker.store, CONFIGURATION_URL, document=True)
        await log_in(broker)
        assert internet.asked(IDP, CONFIGURATION) == 2


async def test_document_goes_on_being_used_while_its_server_fails(make_broker: MakeBroker, internet: Internet) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(http=internet.http()) as broker:
        await log_in(broker)
        internet.serve(IDP, CONFIGURATION, b"broken", status=500)
        await make_stale(broker.store, CONFIGURATION_URL)
        assert (await log_in(broker)).status_code == 303
        async with asyncio.timeout(20):
            while (entry := await known(broker.store, CONFIGURATION_URL)) is None or entry.failure is None:
                await asyncio.sleep(0.01)
        assert (await log_in(broker)).status_code == 303
        assert internet.asked(IDP, CONFIGURATION) == 2


async def test_domain_that_is_back_is_asked_for_everybody_again(make_broker: MakeBroker, internet: Internet) -> None:
    internet.provider(IDP)
    internet.names.hosts[DOMAIN] = [[]]
    async with make_broker(http=internet.http()) as broker:
        assert (await log_in(broker)).status_code == 200
        internet.names.hosts[DOMAIN] = [["93.184.216.34"]]
        internet.mail_domain(DOMAIN)
        assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 200
        await make_stale(broker.store, GONE)
        assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 200
        async with asyncio.timeout(20):
            while await known(broker.store, GONE) is not None:
                await asyncio.sleep(0.01)
        assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 303
        assert (await log_in(broker, f"c@{DOMAIN}")).status_code == 303


async def test_domain_without_webfinger_is_asked_once_an_address(make_broker: MakeBroker, internet: Internet) -> None:
    async with make_broker(http=internet.http()) as broker:
        for _ in range(3):
            assert (await log_in(broker)).status_code == 200
        assert internet.asked(DOMAIN) == 1
        # One address that its domain does not know says nothing of the others.
        internet.mail_domain(DOMAIN)
        internet.provider(IDP)
        assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 303


async def test_fifty_logins_for_fifty_hanging_domains_do_not_wait_on_each_other(
    make_broker: MakeBroker, internet: Internet
) -> None:
    held = asyncio.Event()
    domains = [f"d{i}.mail.example" for i in range(50)]
    for domain in domains:
        internet.mail_domain(domain).hold = held
    internet.provider(IDP)
    # This process plays fifty servers with TLS as well: on a busy machine that takes it longer than Redis may take.
    patient = {"webfinger_timeout": "60", "discovery_timeout": "60", "redis_timeout": "60"}
    async with make_broker(http=internet.http(), **patient) as broker:
        logins = [asyncio.create_task(log_in(broker, f"a@{domain}")) for domain in domains]
        for domain in domains:
            await internet.until_asked(domain)  # all of them, while none has been answered
        other = "quick.mail.example"
        internet.mail_domain(other)
        assert (await log_in(broker, f"a@{other}")).status_code == 303
        held.set()
        assert {(await login).status_code for login in logins} == {303}


async def test_lifetime_of_a_document_is_honoured_above_cache_ttl_and_bounded(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.provider(IDP)
    stale = 86_400

    async def life(header: str) -> float:
        await internet.names.addresses(IDP)
        internet.mail_domain(DOMAIN).headers["Cache-Control"] = header
        async with make_broker(http=internet.http(), cache_ttl="3600") as broker:
            address = f"a{time.monotonic_ns()}@{DOMAIN}"
            await log_in(broker, address)
            keys = [key async for key in broker.store.client.scan_iter("fetch:*")]
            lives = [await broker.store.client.pttl(key) / 1000 - stale for key in keys]
            await broker.store.client.delete(*keys)
            return max(lives) if header else min(lives)

    assert 3500 < await life("max-age=60") <= 3600
    assert 7100 < await life("max-age=7200") <= 7200
    assert 86_000 < await life("max-age=31536000") <= 86_400


async def test_no_address_and_no_domain_lies_in_redis_for_the_cache(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(http=internet.http()) as broker:
        await log_in(broker, f"secret.person@{DOMAIN}")
        keys = [key async for key in broker.store.client.scan_iter("*") if not key.startswith(b"login:")]
        assert any(key.startswith(b"fetch:") for key in keys)
        assert not [key for key in keys if b"secret" in key or b"mail.example" in key]


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"links":' + b"[{}," * 50_000 + b"{}]}"])
async def test_what_strangers_send_does_not_fill_the_cache(
    make_broker: MakeBroker, internet: Internet, body: bytes
) -> None:
    internet.serve(DOMAIN, WEBFINGER, body)
    async with make_broker(http=internet.http()) as broker:
        assert (await log_in(broker)).status_code == 200
        for key in [key async for key in broker.store.client.scan_iter("fetch:*")]:
            assert (await broker.store.client.memory_usage(key) or 0) < 1000


@pytest.mark.parametrize("path", [CONFIGURATION, "/keys"])
async def test_provider_that_hangs_delays_the_first_login_and_no_later_one_of_any_address_or_instance(
    make_broker: MakeBroker, internet: Internet, path: str
) -> None:
    internet.mail_domain(DOMAIN)
    internet.mail_domain(f"b-{DOMAIN}")
    internet.provider(IDP)
    internet.replies[IDP, path].hold = asyncio.Event()
    # The provider may take its time, far longer than anybody who logs in waits.
    patient = {"oidc_config_timeout": "300", "oidc_jwks_timeout": "300"}
    async with (
        make_broker(http=internet.http(), discovery_timeout="1", **patient) as broker,
        make_broker(http=internet.http(), discovery_timeout="300", **patient) as other,
    ):
        assert (await log_in(broker)).status_code == 200
        # Whoever comes while the provider is still being asked would wait for minutes here, if they waited at all.
        async with asyncio.timeout(60):
            assert (await log_in(other)).status_code == 200
            assert (await log_in(other, f"c@{DOMAIN}")).status_code == 200
            assert (await log_in(other, f"c@b-{DOMAIN}")).status_code == 200
        assert internet.asked(IDP, path) == 1


async def test_answer_that_comes_after_all_counts_again(make_broker: MakeBroker, internet: Internet) -> None:
    held = internet.mail_domain(DOMAIN).hold = asyncio.Event()
    internet.provider(IDP)
    async with make_broker(http=internet.http(), discovery_timeout="1", webfinger_timeout="60") as broker:
        assert (await log_in(broker)).status_code == 200
        assert await known(broker.store, GONE) is not None
        held.set()
        async with asyncio.timeout(20):
            while await known(broker.store, GONE) is not None:
                await asyncio.sleep(0.01)
        assert (await log_in(broker)).status_code == 303
        assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 303


async def test_hundreds_of_hanging_domains_let_no_other_one_look_as_if_it_hung(
    make_broker: MakeBroker, internet: Internet
) -> None:
    held = asyncio.Event()
    domains = [f"d{i}.mail.example" for i in range(260)]
    for domain in domains:
        internet.mail_domain(domain).hold = held
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    patient = {"webfinger_timeout": "300", "discovery_timeout": "300", "redis_timeout": "60"}
    async with make_broker(http=internet.http(), **patient) as broker:
        logins = []
        for i, domain in enumerate(domains):
            logins.append(asyncio.create_task(log_in(broker, f"a@{domain}")))
            if i % 20 == 19:  # so that this machine keeps up with their TLS
                await internet.until_asked(domain)
        assert (await log_in(broker)).status_code == 303
        held.set()
        assert {(await login).status_code for login in logins} == {303}


JUNK = [
    b"",
    b"\xff\xfe",
    b"no JSON",
    b"null",
    b"7",
    b"[]",
    b'[["portier"]]',
    b'{"links": 7, "keys": 7, "jwks_uri": 7}',
    b'{"links": [[]], "keys": [[]], "authorization_endpoint": "javascript:alert(1)"}',
    b'{"links": {}, "keys": [{"kid": "1", "use": "sig", "alg": "RS256", "kty": "RSA", "n": 7, "e": []}]}',
    b"[" * 200_000,
    b'{"a": ' + b"9" * 10_000 + b"}",
    b'"' + b"A" * 10_000_000 + b'"',
]
NAMES = {"webfinger": WEBFINGER_URL, "configuration": CONFIGURATION_URL, "keys": KEYS_NAME, "host": GONE}


async def put(store: Store, name: str, junk: bytes) -> None:
    """Lay something into the cache that looks fresh."""
    key = FETCH.key(digest=digest(name))
    await store.client.delete(key)
    await store.client.hset(key, mapping={"document": junk, "stale": "0"})
    await store.client.pexpire(key, 600_000)


@pytest.mark.parametrize("name", NAMES)
async def test_junk_in_the_cache_counts_as_nothing_and_is_fetched_again(
    make_broker: MakeBroker, internet: Internet, name: str
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(http=internet.http(), discovery_timeout="20") as broker:
        for junk in JUNK:
            await put(broker.store, NAMES[name], junk)
            assert (await log_in(broker)).status_code == 303, junk[:80]
            if name != "host":
                entry = await known(broker.store, NAMES[name])
                assert entry is not None
                assert (entry.document or "").encode() not in ("", junk)


async def test_junk_for_a_server_that_fails_by_now_is_followed_by_a_mail_and_nobody_waits_twice(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.serve(DOMAIN, WEBFINGER, b"broken", status=500)
    async with make_broker(http=internet.http()) as broker:
        for times, junk in enumerate(JUNK, 1):
            await put(broker.store, WEBFINGER_URL, junk)
            for _ in range(3):
                assert (await log_in(broker)).status_code == 200
            assert internet.asked(DOMAIN) == times
        assert len(broker.postbox.mails) == 3 * len(JUNK)


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
async def test_provider_whose_documents_are_junk_is_not_used_and_a_mail_is_sent(
    make_broker: MakeBroker, internet: Internet, junk: bytes
) -> None:
    internet.provider(IDP)
    internet.serve(DOMAIN, WEBFINGER, junk)
    async with make_broker(http=internet.http()) as broker:
        assert (await log_in(broker)).status_code == 200
    for path in (CONFIGURATION, "/keys"):
        internet.mail_domain(DOMAIN)
        internet.provider(IDP)
        internet.serve(IDP, path, junk)
        async with make_broker(http=internet.http()) as broker:
            assert (await log_in(broker, f"b@{DOMAIN}")).status_code == 200


async def test_keys_that_turned_to_junk_while_the_person_was_at_the_provider_are_fetched_again(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.mail_domain(DOMAIN)
    provider = internet.provider(IDP)
    async with make_broker(http=internet.http()) as broker:
        for junk in JUNK:
            url = (await log_in(broker, response_mode="fragment")).headers["location"]
            await put(broker.store, KEYS_NAME, junk)
            state = dict(parse_qsl(urlsplit(url).query))["state"]
            data = {"state": state, "id_token": provider.token(url), "_again": "1"}
            answer = await broker.browser.post("/callback", data=data)
            assert "id_token=" in answer.headers["location"], junk[:80]


async def test_domain_that_redirects_to_what_is_no_url_gets_its_people_mails(
    make_broker: MakeBroker, internet: Internet
) -> None:
    internet.serve(DOMAIN, WEBFINGER, {}, status=302, headers={"Location": "http://["})
    async with make_broker(http=internet.http()) as broker:
        assert (await log_in(broker)).status_code == 200

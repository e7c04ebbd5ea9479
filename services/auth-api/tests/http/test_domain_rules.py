"""The domain rules in the contract's order, with a real DNS server to ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest

from auth_api.errors import DiscoveryError
from auth_api.mail_servers import MailServers
from shared_store.keyspace import FETCH, digest

if TYPE_CHECKING:
    from tests.http.conftest import Broker, DnsServer, MakeBroker


async def refusal(broker: Broker, domain: str) -> str:
    """Ask for a login; gives what the site is told, '' where the login goes on."""
    answer = await broker.authorize(login_hint=f"a@{domain}", response_mode="query")
    if answer.status_code == 200:
        return ""
    told = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert told["error"] == "invalid_request"
    return told["error_description"]


BLOCKED = "the domain of the email address is blocked"
INVALID = "the domain of the email address is invalid"


async def reasons(broker: Broker) -> dict[str, int]:
    lines = (await broker.browser.get("/metrics")).text.splitlines()
    found = [line for line in lines if line.startswith("portier_domain_validation_error{")]
    counts = {line.split('"')[1]: int(line.rpartition(" ")[2]) for line in found}
    return {reason: count for reason, count in counts.items() if count}


@pytest.mark.setting("allowed_domains", "blocked_domains", "verify_with_resolver")
async def test_lists_are_looked_at_in_the_contracts_order(make_broker: MakeBroker, dns_server: DnsServer) -> None:
    async with make_broker(
        allowed_domains="null.example,BJÖRN.example",
        blocked_domains="null.example,bad.example",
        verify_with_resolver=f"127.0.0.1:{dns_server.port}",
    ) as broker:
        assert await refusal(broker, "null.example") == ""  # allowed wins, and nothing more is checked
        assert await refusal(broker, "xn--bjrn-6qa.example") == ""
        assert dns_server.asked == []
        assert await refusal(broker, "bad.example") == BLOCKED
        assert await refusal(broker, "sub.bad.example") == INVALID
        assert await refusal(broker, "good.example") == ""
        assert await reasons(broker) == {"blocked": 1, "no_servers": 1}


@pytest.mark.setting("allowed_domains_only")
async def test_allowed_only_refuses_everybody_else(make_broker: MakeBroker) -> None:
    async with make_broker(allowed_domains="good.example", allowed_domains_only="true") as broker:
        assert await refusal(broker, "good.example") == ""
        assert await refusal(broker, "other.example") == BLOCKED
        as_json = await broker.browser.post(
            "/auth",
            data={
                "client_id": "https://site.example",
                "redirect_uri": "https://site.example/",
                "response_type": "code",
                "scope": "openid",
                "login_hint": "a@other.example",
            },
            headers={"accept": "application/json"},
        )
        assert (as_json.status_code, as_json.json()["error_description"]) == (400, BLOCKED)
        assert await reasons(broker) == {"blocked": 2}


async def test_nothing_is_looked_up_where_it_is_not_asked_for(make_broker: MakeBroker) -> None:
    async with make_broker() as broker:
        assert await refusal(broker, "nowhere.example") == ""


VERDICTS = {
    "good.example": None,
    "six.example": None,
    "several.example": None,
    "bare.example": None,
    "half-null.example": None,
    "null.example": "null_mx",
    "nowhere.example": "no_servers",
    "empty.example": "no_servers",
    "dangling.example": "no_servers",
    "inside.example": "no_public_ips",
    "private.example": "no_public_ips",
    "loopback.example": "no_public_ips",
    "failing.example": "no_servers",
}


async def test_each_verdict_of_dns_is_told_and_counted(make_broker: MakeBroker, dns_server: DnsServer) -> None:
    async with make_broker(verify_with_resolver=f"127.0.0.1:{dns_server.port}") as broker:
        for domain, problem in VERDICTS.items():
            assert await refusal(broker, domain) == (INVALID if problem else ""), domain
        expected = [problem for problem in VERDICTS.values() if problem]
        assert await reasons(broker) == {problem: expected.count(problem) for problem in expected}


@pytest.mark.parametrize("domain", ["inside.example", "private.example", "loopback.example", "dangling.example"])
@pytest.mark.setting("verify_public_ip")
async def test_private_servers_are_enough_where_public_ones_are_not_asked_for(
    make_broker: MakeBroker, dns_server: DnsServer, domain: str
) -> None:
    server = f"127.0.0.1:{dns_server.port}"
    async with make_broker(verify_with_resolver=server, verify_public_ip="false") as broker:
        assert await refusal(broker, domain) == ""
        assert await refusal(broker, "nowhere.example") == INVALID
        assert await refusal(broker, "null.example") == INVALID


async def test_verdict_is_kept_for_all_instances(make_broker: MakeBroker, dns_server: DnsServer) -> None:
    server = f"127.0.0.1:{dns_server.port}"
    async with (
        make_broker(verify_with_resolver=server) as one,
        make_broker(verify_with_resolver=server) as other,
    ):
        for domain in ("good.example", "nowhere.example"):
            await asyncio.gather(*(refusal(broker, domain) for broker in (one, other) for _ in range(20)))
    assert dns_server.asked.count(("good.example.", "MX")) == 1
    assert dns_server.asked.count(("nowhere.example.", "MX")) == 1


async def test_name_that_dns_cannot_have_is_invalid() -> None:
    servers = MailServers("127.0.0.1", 1, public_only=True)
    for domain in ("a" * 64 + ".example", "a..example", ".".join(["a" * 60] * 5)):
        assert await servers.problem(domain) == "invalid_name"


async def test_dns_server_that_is_silent_is_waited_for_once_and_not_for_long(
    make_broker: MakeBroker, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auth_api.mail_servers.TIMEOUT", 0.5)
    async with make_broker(verify_with_resolver=f"127.0.0.1:{dns_server.port}") as broker:
        assert [await refusal(broker, "silent.example") for _ in range(3)] == [INVALID] * 3
    assert dns_server.asked == [("silent.example.", "MX")]


async def test_dns_server_whose_name_leads_elsewhere_by_now_is_found_again(
    dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auth_api.mail_servers.TIMEOUT", 0.5)
    addresses = iter(["127.0.0.9", "127.0.0.1"])

    async def addresses_of(_host: str) -> list[str]:
        return [next(addresses)]

    monkeypatch.setattr("auth_api.mail_servers._addresses_of", addresses_of)
    servers = MailServers("dns.example", dns_server.port, public_only=True)
    with pytest.raises(DiscoveryError):
        await servers.problem("good.example")
    assert await servers.problem("good.example") is None


async def test_junk_in_the_cache_is_no_verdict_and_dns_is_asked_again(
    make_broker: MakeBroker, dns_server: DnsServer
) -> None:
    async with make_broker(verify_with_resolver=f"127.0.0.1:{dns_server.port}") as broker:
        server = MailServers("127.0.0.1", dns_server.port, public_only=True)
        for domain, told in (("good.example", ""), ("sub.bad.example", INVALID)):
            key = FETCH.key(digest=digest(server.question(domain).name))
            for junk in (b"junk", b"\xff", b"[1]", b"A" * 100_000):
                await broker.store.client.delete(key)
                await broker.store.client.hset(key, mapping={"document": junk, "stale": 0})
                await broker.store.client.pexpire(key, 600_000)
                assert await refusal(broker, domain) == told

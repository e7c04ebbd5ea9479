"""Rate limits and bounds over HTTP: behind proxies, across networks, instances and logins."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from shared_store import rate_limits
from shared_store.rate_limits import Counter

if TYPE_CHECKING:
    from tests.conftest import Internet
    from tests.http.conftest import Broker, MakeBroker, MakeRequest

IDP, DOMAIN = "login.mail.example", "acme.mail.example"


class Networks:
    """Sends authorization requests from wherever is wanted, by way of a trusted proxy."""

    def __init__(self, broker: Broker, make_request: MakeRequest) -> None:
        self.broker = broker
        self._make_request = make_request
        self._number = 0

    async def ask(self, *forwarded_for: str, **changes: str | None) -> httpx.Response:
        """Ask from there; the values are the lines of X-Forwarded-For."""
        headers = [("x-forwarded-for", line) for line in forwarded_for]
        return await self.broker.browser.get("/auth", params=self._make_request(**changes), headers=headers)

    async def from_anew(self, **changes: str | None) -> int:
        """Ask from a network that was never seen; gives the status."""
        self._number += 1
        return (await self.ask(f"2a00:{self._number:x}::1", **changes)).status_code

    async def complete_newest(self) -> None:
        """Log in with the newest mail, and wait for what is given back."""
        job = await self.broker.postbox.mail()
        session = dict(parse_qsl(urlsplit(job.link).query))["session"]
        assert (await self.broker.confirm(session, job.code)).status_code == 200


async def eventually(broker: Networks, status: int, **changes: str) -> None:
    """Ask until the answer is this one: counts are given back beside the answers."""
    async with asyncio.timeout(10):
        while await broker.from_anew(**changes) != status:
            await asyncio.sleep(0.01)


@pytest.mark.setting("mails_per_address")
async def test_address_gets_so_many_mails_an_hour_from_whatever_networks(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(mails_per_address="3", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        assert [await networks.from_anew() for _ in range(5)] == [200, 200, 200, 429, 429]
        page = await networks.ask("192.0.2.1")
        assert 3500 < int(page.headers["retry-after"]) <= 3600
        assert len(broker.postbox.mails) == 3
        assert await networks.from_anew(login_hint="PERSON@EXAMPLE.COM") == 429  # the same one
        assert await networks.from_anew(login_hint="other@example.com") == 200


async def test_completed_login_gives_its_mail_back(make_broker: MakeBroker, authorization_request: MakeRequest) -> None:
    async with make_broker(mails_per_address="1", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        for _ in range(3):
            await eventually(networks, 200)
            await networks.complete_newest()
        await eventually(networks, 200)
        assert await networks.from_anew() == 429


async def test_another_mail_of_the_same_login_counts(make_broker: MakeBroker) -> None:
    async with make_broker(mails_per_address="2", resend_delay="0") as broker:
        session, _ = await broker.begin()
        answers = [await broker.browser.post("/resend", data={"session": session}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert len(broker.postbox.mails) == 2


async def test_attempts_refused_by_a_limit_do_not_keep_a_person_elsewhere_from_their_mail(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(mails_per_address="3", limits="ip:email:1/h", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        statuses = [(await networks.ask("192.0.2.1")).status_code for _ in range(20)]
        assert statuses == [200] + [429] * 19
        await eventually(networks, 200)
        await eventually(networks, 200)


async def test_login_that_sends_no_mail_counts_as_none(
    make_broker: MakeBroker, internet: Internet, authorization_request: MakeRequest
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(mails_per_address="1", peer="127.0.0.1", http=internet.http()) as broker:
        networks = Networks(broker, authorization_request)
        assert [await networks.from_anew(login_hint=f"a@{DOMAIN}") for _ in range(4)] == [303] * 4
        for _ in range(4):
            silent = await networks.ask("192.0.2.1", prompt="none", response_mode="query")
            assert "error=interaction_required" in silent.headers["location"]
        await eventually(networks, 200)


@pytest.mark.setting("trusted_proxies")
async def test_client_is_found_behind_trusted_proxies_over_several_header_lines(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    settings = {"limits": "ip:1/h", "trusted_proxies": "10.0.0.0/8,203.0.113.7"}
    async with make_broker(peer="203.0.113.7", **settings) as broker:
        networks = Networks(broker, authorization_request)
        assert (await networks.ask("198.51.100.1, 10.0.0.9", "10.0.0.1")).status_code == 200
        assert (await networks.ask("198.51.100.1")).status_code == 429
        assert (await networks.ask("192.0.2.66", "198.51.100.1", "10.0.0.1")).status_code == 429  # its own line
        assert (await networks.ask("198.51.100.2, 10.0.0.1")).status_code == 200


async def test_who_is_no_trusted_proxy_is_the_client_itself(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(limits="ip:1/h", trusted_proxies="10.0.0.0/8", peer="203.0.113.7") as broker:
        networks = Networks(broker, authorization_request)
        statuses = [(await networks.ask(f"198.51.100.{host}")).status_code for host in range(3)]
    assert statuses == [200, 429, 429]


async def test_ipv6_clients_of_one_64_are_one_client(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(limits="ip:1/h", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        asked = [await networks.ask(ip) for ip in ("2a00:1::1", "2a00:1::ffff", "2a00:1:0:1::1")]
    assert [answer.status_code for answer in asked] == [200, 429, 200]


@pytest.mark.setting("wrong_codes_per_address")
async def test_wrong_guesses_across_logins_stop_new_logins_for_the_address_from_any_network(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(limits="ip:1000/s", wrong_codes_per_address="6", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        for number in range(6):
            await guess_wrong(broker, network=f"192.0.2.{number}")
        await eventually(networks, 429)
        assert await networks.from_anew(login_hint="other@example.com") == 200


async def test_wrong_guesses_of_one_network_keep_nobody_but_itself_from_the_address(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(limits="ip:1000/s", wrong_codes_per_address="10", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        for _ in range(3):
            await guess_wrong(broker, network="192.0.2.1", times=3)
        async with asyncio.timeout(10):
            while (await networks.ask("192.0.2.1")).status_code != 429:
                await asyncio.sleep(0.01)
        assert (await networks.ask("192.0.2.1", login_hint="other@example.com")).status_code == 200
        assert await networks.from_anew() == 200


async def test_wrong_guesses_never_stop_who_logs_in_without_a_mail(
    make_broker: MakeBroker, internet: Internet, authorization_request: MakeRequest
) -> None:
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    async with make_broker(wrong_codes_per_address="1", peer="127.0.0.1", http=internet.http()) as broker:
        networks = Networks(broker, authorization_request)
        provider = f"a@{DOMAIN}"
        await broker.store.run(rate_limits.hit([Counter("wrong-code:address", (provider,), 1, 3600.0)]))
        assert await networks.from_anew(login_hint=provider) == 303


async def guess_wrong(broker: Broker, *, network: str, times: int = 1) -> None:
    """Begin a login here, and type wrong codes there."""
    broker.postbox.mails.clear()
    session, _code = await broker.begin()
    wrong, headers = {"session": session, "code": "wrong", "device_ok": "1"}, {"x-forwarded-for": network}
    for _ in range(times):
        assert (await broker.browser.post("/confirm", data=wrong, headers=headers)).status_code == 403


@pytest.mark.setting("wrong_codes_per_network")
async def test_wrong_codes_for_many_addresses_stop_new_logins_from_their_network_alone(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(wrong_codes_per_network="3", peer="127.0.0.1") as broker:
        networks = Networks(broker, authorization_request)
        for name in ("a", "b", "c"):
            broker.postbox.mails.clear()
            assert (await networks.ask("2a00:1::1", login_hint=f"{name}@example.com")).status_code == 200
            session = dict(parse_qsl(urlsplit((await broker.postbox.mail()).link).query))["session"]
            wrong = {"session": session, "code": "wrong", "device_ok": "1"}
            headers = {"x-forwarded-for": "2a00:1::2"}
            assert (await broker.browser.post("/confirm", data=wrong, headers=headers)).status_code == 403
        async with asyncio.timeout(10):  # wrong codes are counted beside the answers
            while (await networks.ask("2a00:1::3", login_hint="d@example.com")).status_code != 429:
                await asyncio.sleep(0.01)
        assert (await networks.ask("2a00:2::1", login_hint="d@example.com")).status_code == 200


async def test_page_and_program_are_told_when_to_come_again(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with make_broker(limits="1/2h") as broker:
        await broker.authorize()
        page = await broker.authorize()
        program = await broker.browser.get(
            "/auth", params=authorization_request(), headers={"accept": "application/json"}
        )
    for answer in (page, program):
        assert answer.status_code == 429
        assert 7100 < int(answer.headers["retry-after"]) <= 7200
        assert "location" not in answer.headers
    assert "text/html" in page.headers["content-type"]
    assert program.json() == {
        "error": "access_denied",
        "error_description": "too many requests",
        "reference": None,
    }


@pytest.mark.parametrize("flags", ["", "email:", "ip:email:origin:decr_complete:", "domain:extend_window:"])
async def test_of_many_requests_at_once_over_three_instances_exactly_as_many_pass_as_may(
    make_broker: MakeBroker, authorization_request: MakeRequest, flags: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        brokers = [
            await stack.enter_async_context(make_broker(limits=f"{flags}7/h", mails_per_address="1000"))
            for _ in range(3)
        ]
        params = authorization_request()
        answers = await asyncio.gather(*(brokers[i % 3].browser.get("/auth", params=params) for i in range(90)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 83


async def test_of_many_mails_at_once_over_three_instances_exactly_as_many_go_out_as_may(
    make_broker: MakeBroker, authorization_request: MakeRequest
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        brokers = [
            await stack.enter_async_context(make_broker(peer="127.0.0.1", mails_per_address="7")) for _ in range(3)
        ]
        networks = [Networks(broker, authorization_request) for broker in brokers]
        answers = await asyncio.gather(*(networks[i % 3].ask(f"2a00:{i:x}::1") for i in range(90)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 83
    assert len({mail.id for broker in brokers for mail in broker.postbox.mails}) == 7


async def test_every_limit_counts_even_when_an_earlier_one_refuses(make_broker: MakeBroker) -> None:
    async with make_broker(limits="ip:1/h,email:3/h") as broker:
        for _ in range(5):
            await broker.authorize()
        counts = {int(await broker.store.client.get(key) or 0) for key in await broker.store.client.keys("limit:*")}
    assert 5 in counts
    assert counts <= {1, 2, 3, 4, 5}

"""The names that dashboards of the Rust broker read: all there, on both ports, and each counts what it says."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from prometheus_client import generate_latest

from auth_api.server import open_listener, serving
from service_kit.settings import Link

if TYPE_CHECKING:
    from tests.conftest import Internet
    from tests.http.conftest import Broker, DnsServer, MakeBroker

COUNTERS = {
    "portier_http_connections": None,
    "portier_http_requests": None,
    "portier_http_response_status": ("code", ("1xx", "2xx", "3xx", "4xx", "5xx")),
    "portier_auth_limited": None,
    "portier_auth_requests": None,
    "portier_auth_email_requests": None,
    "portier_auth_email_completed": None,
    "portier_auth_email_code_incorrect": None,
    "portier_auth_oidc_requests": ("rel", ("portier", "google")),
    "portier_auth_oidc_completed": None,
    "portier_domain_validation_error": (
        "reason",
        ("invalid_name", "blocked", "null_mx", "no_servers", "no_public_ips"),
    ),
}
HISTOGRAMS = (
    "portier_auth_webfinger_duration",
    "portier_auth_email_send_duration",
    "portier_auth_oidc_fetch_config_duration",
    "portier_auth_oidc_fetch_jwks_duration",
)
BUCKETS = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]

Sample = tuple[str, str]  # a name, and its label's value ('' for none)
OLD_COUNTERS: frozenset[Sample] = frozenset(
    (name, value) for name, label in COUNTERS.items() for value in (label[1] if label else ("",))
)
OLD_COUNTS = OLD_COUNTERS | {(f"{name}_count", "") for name in HISTOGRAMS}


_LINE = re.compile(r'^([a-z_]+)(?:\{[a-z]+="([^"]*)"\})? ([0-9.e+-]+)$', re.MULTILINE)


def read(text: str) -> dict[Sample, float]:
    """Every sample but the histograms' buckets; prometheus-client's own parser would rename counters."""
    lines = [match.groups() for match in _LINE.finditer(text) if not match[1].endswith("_bucket")]
    found = {(name, label or ""): float(value) for name, label, value in lines}
    assert len(found) == len(lines), "a sample is there twice"
    return found


async def public(broker: Broker) -> str:
    answer = await broker.browser.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text


async def test_every_name_of_old_is_on_both_ports_with_its_labels_and_buckets(broker: Broker) -> None:
    inside = generate_latest(broker.service.registry).decode()
    for text in (await public(broker), inside):
        assert set(read(text)) >= OLD_COUNTS
        for name, label in COUNTERS.items():
            for value in label[1] if label else ():
                assert f'\n{name}{{{label[0] if label else ""}="{value}"}} ' in text
        for name in HISTOGRAMS:
            assert [line.split('"')[1] for line in text.splitlines() if line.startswith(f"{name}_bucket")] == BUCKETS


async def test_types_are_told_as_the_rust_broker_tells_them(broker: Broker) -> None:
    text = await public(broker)
    assert [f"# TYPE {name} counter" in text for name in COUNTERS] == [True] * len(COUNTERS)
    assert [f"# TYPE {name} histogram" in text for name in HISTOGRAMS] == [True] * len(HISTOGRAMS)


PORTIER = "https://portier.io/specs/auth/1.0/idp"
IDP, DOMAIN = "login.mail.example", "acme.mail.example"


async def by_provider(broker: Broker, internet: Internet, address: str, **changes: str) -> httpx.Response:
    """Log in by a provider."""
    begun = await broker.authorize(login_hint=address, response_mode="query", **changes)
    url = begun.headers["location"]
    state = dict(parse_qsl(urlsplit(url).query))["state"]
    token = internet.provider(urlsplit(url).hostname or "").token(url)
    return await broker.browser.post("/callback", data={"state": state, "id_token": token, "_again": "1"})


async def fail_at_the_provider(broker: Broker) -> None:
    begun = await broker.authorize(login_hint=f"a@{DOMAIN}", response_errors="false")
    state = dict(parse_qsl(urlsplit(begun.headers["location"]).query))["state"]
    failed = await broker.browser.post("/callback", data={"state": state, "error": "server_error", "_again": "1"})
    assert failed.status_code == 503


async def log_in_by_mail(broker: Broker) -> None:
    session, code = await broker.begin(login_hint="a@good.example")
    assert (await broker.confirm(session, "wrong")).status_code == 403
    assert (await broker.confirm(session, code)).status_code == 200


async def exceed_a_limit(broker: Broker) -> None:
    answers = [(await broker.authorize(login_hint="many@bad.example")).status_code for _ in range(6)]
    assert answers[-1] == 429


async def over_a_connection(broker: Broker) -> None:
    listener = open_listener("127.0.0.1", 0)
    host, port = listener.getsockname()
    app, count = broker.service.app, broker.service.count_connection
    async with serving(app, listener, count_connection=count), httpx.AsyncClient() as client:
        for _ in range(3):  # one connection, kept
            await client.get(f"http://{host}:{port}/ver.txt")


@contextlib.asynccontextmanager
async def changes(broker: Broker) -> AsyncIterator[dict[Sample, float]]:
    """Give what the block changes of the public metrics, the two requests for them left out."""
    before, found = read(await public(broker)), dict[Sample, float]()
    yield found
    after = read(await public(broker))
    found.update({sample: after[sample] - before[sample] for sample in OLD_COUNTS if after[sample] != before[sample]})
    found[("portier_http_requests", "")] -= 1
    found[("portier_http_response_status", "2xx")] -= 1


Scenario = Callable[["Broker", "Internet"], Awaitable[object]]
Counts = dict[Sample, float]  # names without `portier_`


async def by_provider_twice(broker: Broker, internet: Internet) -> None:
    await by_provider(broker, internet, f"a@{DOMAIN}")
    await by_provider(broker, internet, f"a@{DOMAIN}")


async def with_a_name_that_dns_cannot_have(broker: Broker, _internet: Internet) -> None:
    async def invalid_name(_servers: object, _domain: str) -> str:
        return "invalid_name"  # no address has such a domain; the name is there all the same

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auth_api.mail_servers.MailServers.problem", invalid_name)
        await broker.authorize(login_hint="a@other.example")


def refusal(domain: str, reason: str) -> tuple[Scenario, Counts]:
    return lambda broker, _: broker.authorize(login_hint=f"a@{domain}"), {
        ("http_response_status", "2xx"): 1,  # a page on which the address can be corrected
        ("auth_requests", ""): 1,
        ("domain_validation_error", reason): 1,
    }


AT_PROVIDER: Counts = {
    ("auth_requests", ""): 1,
    ("auth_oidc_fetch_config_duration_count", ""): 1,
    ("auth_oidc_fetch_jwks_duration_count", ""): 1,
}
SCENARIOS: dict[str, tuple[Scenario, Counts]] = {
    "login by mail": (
        lambda broker, _: log_in_by_mail(broker),
        {
            ("http_response_status", "2xx"): 2,
            ("http_response_status", "4xx"): 1,
            ("auth_requests", ""): 1,
            ("auth_email_requests", ""): 1,
            ("auth_email_completed", ""): 1,
            ("auth_email_code_incorrect", ""): 1,
            ("auth_email_send_duration_count", ""): 1,
        },
    ),
    "login by a provider": (
        lambda broker, internet: by_provider(broker, internet, f"a@{DOMAIN}"),
        {
            **AT_PROVIDER,
            ("http_response_status", "3xx"): 2,
            ("auth_oidc_requests", "portier"): 1,
            ("auth_oidc_completed", ""): 1,
            ("auth_webfinger_duration_count", ""): 1,
        },
    ),
    "login by Google": (
        lambda broker, internet: by_provider(broker, internet, "a@gmail.com"),
        {
            **AT_PROVIDER,
            ("http_response_status", "3xx"): 2,
            ("auth_oidc_requests", "google"): 1,
            ("auth_oidc_completed", ""): 1,
        },
    ),
    "provider's answers are known already": (
        by_provider_twice,
        {
            ("http_response_status", "3xx"): 4,
            **dict.fromkeys(AT_PROVIDER, 2),
            ("auth_oidc_requests", "portier"): 2,
            ("auth_oidc_completed", ""): 2,
            ("auth_webfinger_duration_count", ""): 2,  # what a login waited
        },
    ),
    "failure at the provider": (
        lambda broker, _: fail_at_the_provider(broker),
        {
            **AT_PROVIDER,
            ("http_response_status", "3xx"): 1,
            ("http_response_status", "5xx"): 1,
            ("auth_oidc_requests", "portier"): 1,
            ("auth_webfinger_duration_count", ""): 1,
        },
    ),
    "limit exceeded": (
        lambda broker, _: exceed_a_limit(broker),
        {
            ("http_response_status", "2xx"): 5,
            ("http_response_status", "4xx"): 1,
            ("auth_requests", ""): 5,
            ("auth_limited", ""): 1,
            ("domain_validation_error", "blocked"): 5,
        },
    ),
    "domain that takes no mail": refusal("null.example", "null_mx"),
    "domain without servers": refusal("nowhere.example", "no_servers"),
    "domain inside a network": refusal("inside.example", "no_public_ips"),
    "domain that DNS can't have": (
        with_a_name_that_dns_cannot_have,
        {("http_response_status", "2xx"): 1, ("auth_requests", ""): 1, ("domain_validation_error", "invalid_name"): 1},
    ),
    "connection": (
        lambda broker, _: over_a_connection(broker),
        {("http_response_status", "2xx"): 3, ("http_connections", ""): 1},
    ),
    # Faulty requests are requests, but none for a login.
    "faulty request": (lambda broker, _: broker.browser.get("/auth"), {("http_response_status", "4xx"): 1}),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_happens_changes_its_counts_and_no_others(
    make_broker: MakeBroker, internet: Internet, dns_server: DnsServer, name: str
) -> None:
    work, counts = SCENARIOS[name]
    internet.mail_domain(DOMAIN)
    internet.provider(IDP)
    internet.provider("accounts.google.com")
    async with make_broker(
        http=internet.http(),
        google_client_id="client",
        limits="ip:email:5/h",
        allowed_domains=f"{DOMAIN},gmail.com",
        blocked_domains="bad.example",
        verify_with_resolver=f"127.0.0.1:{dns_server.port}",
    ) as broker:
        async with changes(broker) as found:
            await work(broker, internet)
        inside = read(generate_latest(broker.service.registry).decode())
    found = {sample: count for sample, count in found.items() if count}
    requests = sum(count for (metric, _), count in counts.items() if metric == "http_response_status")
    assert found == {
        (f"portier_{metric}", label): count
        for (metric, label), count in (counts | {("http_requests", ""): requests}).items()
    }
    assert all(inside[sample] > 0 for sample in found)


def test_no_count_of_old_is_left_without_something_that_changes_it() -> None:
    changed = {(f"portier_{metric}", label) for _, counts in SCENARIOS.values() for metric, label in counts}
    assert changed == OLD_COUNTS - {("portier_http_response_status", "1xx"), ("portier_http_requests", "")}


@pytest.mark.setting("uncounted_emails")
async def test_uncounted_address_is_left_out_of_requests_completions_and_durations_but_not_of_errors(
    make_broker: MakeBroker, internet: Internet
) -> None:
    link = Link(rel=PORTIER, href=f"https://{IDP}")
    internet.provider(IDP)
    async with make_broker(
        http=internet.http(),
        overrides={DOMAIN: (link,)},
        uncounted_emails=f"Monitor@GÖTEBORG.example,monitor@{DOMAIN}",
        limits="ip:email:2/h",
    ) as broker:
        session, code = await broker.begin(login_hint="monitor@göteborg.example")
        await broker.confirm(session, "wrong")
        await broker.confirm(session, code)
        await by_provider(broker, internet, f"monitor@{DOMAIN}")
        for _ in range(2):
            await broker.authorize(login_hint=f"monitor@{DOMAIN}")
        told = {sample: count for sample, count in read(await public(broker)).items() if sample in OLD_COUNTS and count}
    assert {name for name, _ in told if not name.startswith("portier_http")} == {
        "portier_auth_email_code_incorrect",
        "portier_auth_limited",
    }

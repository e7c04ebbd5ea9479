"""What people, browsers and programs are told while Redis is away, and what they get when it is back."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect
from tests.faults.broker import SITE, Broker, asked, is_told
from tests.person import form_to
from tests.stack import until

from shared_store.auth_codes import new_access_token

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

# What a browser asks for: the page's language, its heading, that it tries again by itself.
LANGUAGES = {
    "en-GB,en;q=0.9": ("en", "The service is not available at the moment.", "This page tries again by itself"),
    "de-AT,de;q=0.9,en;q=0.5": ("de", "Der Dienst ist im Moment nicht verfügbar.", "von selbst noch einmal"),
    "fr-FR,fr": ("fr", "Le service est indisponible pour le moment.", "réessaiera d’elle-même"),
    "fr-CA": ("fr-CA", "Le service n’est pas accessible pour le moment.", "réessaiera d’elle-même"),
    "nl": ("nl", "De dienst is op dit moment niet beschikbaar.", "vanzelf opnieuw"),
    "tlh": ("en", "The service is not available at the moment.", "This page tries again by itself"),
}


@pytest.fixture
def away(whole: Broker) -> Iterator[Broker]:
    """Redis is dead, after a login has begun; it comes back when the test is over, if it has not before."""
    whole.mailbox.delay = 0.0
    assert whole.begin("begun@example.org").status_code == 200
    whole.mailbox.wait_for("begun@example.org")
    whole.redis.kill()
    try:
        until(lambda: all(is_told(whole.begin("nobody@example.org", api=api)) for api in range(2)))
        yield whole
    finally:
        comes_back(whole)
    whole.until_ready()
    assert whole.nobody_died()


def comes_back(running: Broker) -> None:
    if running.redis._process is None or running.redis._process.poll() is not None:
        running.redis.start()


@pytest.mark.fault(
    row="Redis dies, comes back",
    cause="Redis is killed; pages are asked for in five languages and one that there is not; JSON at every endpoint",
    auth_api="503, Retry-After, a page in the person's language that says so, tries again by itself with and without "
    "scripts, keeps what was typed, betrays nothing of Redis; programs get temporarily_unavailable as JSON",
    mailer="-",
    key_rotator="-",
)
def test_page_of_an_outage_says_what_a_person_needs_and_json_what_a_program_needs(away: Broker) -> None:
    url, mail = away.urls[0], away.mailbox.wait_for("begun@example.org")
    for accepted, (language, heading, by_itself) in LANGUAGES.items():
        page = httpx.get(f"{url}/auth", params=asked("p@example.org"), headers={"Accept-Language": accepted})
        _is_a_page(page, language, heading)
        assert by_itself in page.text
        assert 'http-equiv="refresh"' in page.text
        assert "retry.js" in page.text
        assert f'content="{page.headers["retry-after"]}; url=/auth?' in page.text
        form = {"session": mail.session, "code": mail.code}
        kept = httpx.post(f"{url}/confirm", data=form, headers={"Accept-Language": accepted})
        _is_a_page(kept, language, heading)
        assert form_to("/confirm", kept).fields == form
        link = httpx.get(f"{url}/confirm", params=form, headers={"Accept-Language": accepted})
        _is_a_page(link, language, heading)
    grant = {
        "grant_type": "authorization_code", "code": "x" * 22, "client_id": SITE, "redirect_uri": f"{SITE}/back"
    }  # fmt: skip
    wants_json = {"Accept": "application/json"}
    bearer = {"Authorization": f"Bearer {new_access_token('x')}"}
    for answer in (
        httpx.post(f"{url}/token", data=grant),
        httpx.get(f"{url}/userinfo", headers=bearer),  # that the token can't be looked up does not make it a wrong one
        httpx.get(f"{url}/auth", params=asked("p@example.org"), headers=wants_json),
        httpx.post(f"{url}/confirm", data=form, headers=wants_json),
    ):
        _is_told_quietly(answer)
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.json()["error"] == "temporarily_unavailable"
        assert answer.json()["error_description"]
    for path in ("/.well-known/openid-configuration", "/keys.json", "/"):
        assert httpx.get(f"{url}{path}").status_code == 200


def _is_a_page(answer: httpx.Response, language: str, heading: str) -> None:
    _is_told_quietly(answer)
    assert answer.headers["content-type"].startswith("text/html")
    assert f'<html lang="{language}"' in answer.text
    assert heading in answer.text
    assert int(answer.headers["retry-after"]) <= 30


def _is_told_quietly(answer: httpx.Response) -> None:
    assert is_told(answer), f"{answer.request.url}: {answer.status_code}"
    assert "no-store" in answer.headers["cache-control"]
    assert not [word for word in ("Redis", "redis", "127.0.0.1") if word in answer.text]


@pytest.mark.browser
@pytest.mark.fault(
    row="Redis dies, comes back",
    cause="one browser (Chromium) asks for a login, one sends a code, while Redis is dead; then it comes back",
    auth_api="both pages go on by themselves, without a click: to the code page, and back to the site",
    mailer="the mail comes",
    key_rotator="-",
)
def test_browser_that_met_the_outage_goes_on_by_itself_when_it_is_over(away: Broker, chromium: Browser) -> None:
    mail = away.mailbox.wait_for("begun@example.org")
    query = str(httpx.QueryParams(asked("browser@example.org")))
    context = chromium.new_context(locale="de-DE")
    context.route(f"{SITE}/**", lambda route: route.fulfill(body="back at the site"))
    asks, types = context.new_page(), context.new_page()
    asks.goto(f"{away.urls[0]}/auth?{query}")
    expect(asks.get_by_role("heading", level=1)).to_have_text("Der Dienst ist im Moment nicht verfügbar.")
    form = f"""<form method="post" action="{away.urls[0]}/confirm">
        <input name="session" value="{mail.session}"><input name="code" value="{mail.code}">
        <input name="device_ok" value="1"><button>go</button></form>"""
    types.set_content(form)
    types.get_by_role("button").click()
    expect(types.get_by_role("heading", level=1)).to_have_text("Der Dienst ist im Moment nicht verfügbar.")
    comes_back(away)
    expect(asks.locator("input[name=code]")).to_be_visible(timeout=60_000)
    expect(types.get_by_text("back at the site")).to_be_visible(timeout=60_000)
    assert away.mailbox.wait_for("browser@example.org").code
    context.close()

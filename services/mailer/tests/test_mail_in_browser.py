"""The HTML part in a real browser: light and dark, on a phone, with a site that is as long as sites get."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from mailer.mails import Sender
from mailer.recipients import parse_recipient
from mailer.rendering import LOCALES, Renderer

from .processes import job

pytestmark = pytest.mark.browser

AXE_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
LONGEST = f"https://{'.'.join(['x' * 60] * 4)}.example:8443"
RENDERER = Renderer(Sender.of("Portier", parse_recipient("login@broker.example")))


def html(**changes: object) -> str:
    asked = job("jane@example.org", **changes)
    return RENDERER.render(asked, now=asked.requested_at).html


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--disable-gpu", "--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    scheme: Literal["light", "dark"] = request.param
    with browser.new_context(viewport={"width": 320, "height": 700}, color_scheme=scheme) as context:
        page = context.new_page()
        asked_for: list[str] = []
        page.on("request", lambda sent: asked_for.append(sent.url))
        yield page
        assert not asked_for


def test_axe_finds_nothing_in_any_language(page: Page) -> None:
    for locale in LOCALES:
        page.set_content(html(locale=locale))
        results = Axe().run(page, options=AXE_RULES)
        assert results.response["violations"] == []
        assert any(check["id"] == "color-contrast" for check in results.response["passes"])


@pytest.mark.parametrize("site", ["https://shop.example", LONGEST, "https://דוגמה.example"])
def test_mail_fits_a_phone_with_code_and_button_on_one_line_each(page: Page, site: str) -> None:
    page.set_content(html(site=site))
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    heights = page.evaluate("['.code', '.button a'].map(one => document.querySelector(one).clientHeight)")
    assert all(44 <= height <= 64 for height in heights)

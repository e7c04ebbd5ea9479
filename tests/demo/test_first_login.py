"""The first login, as a newcomer does it: with the code and with the link, in a browser, at both demo sites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

if TYPE_CHECKING:
    from tests.demo.conftest import Demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a browser of its own, whose console has to stay clean."""
    context = chromium.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    # Chromium reports answers that are refusals, too; they are what some of these tests are about.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def begin(page: Page, demo: Demo, address: str, flow: str = "code") -> None:
    page.goto(demo.site)
    page.fill(f"#{flow}-email", address)
    page.click(f"section[aria-labelledby='{flow}'] button")
    expect(page).to_have_title("Portier – Confirm your address", timeout=30_000)


def type_code(page: Page, code: str) -> None:
    page.fill("#code", code)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("flow", ["code", "form-post"])
def test_person_logs_in_with_the_code(page: Page, demo: Demo, flow: str) -> None:
    address = f"with.code.{flow}@demo.invalid"
    begin(page, demo, address, flow)
    code, _ = demo.code_and_link(address)
    type_code(page, code)
    expect(page.locator("#email")).to_have_text(address, timeout=30_000)


@pytest.mark.parametrize("flow", ["code", "form-post"])
def test_link_in_the_same_browser_logs_in_by_itself(page: Page, demo: Demo, flow: str) -> None:
    address = f"with.link.{flow}@demo.invalid"
    begin(page, demo, address, flow)
    _, link = demo.code_and_link(address)
    page.goto(link)
    expect(page.locator("#email")).to_have_text(address, timeout=30_000)


def test_link_in_another_browser_shows_the_code_and_leaves_the_first_alone(
    page: Page, demo: Demo, chromium: Browser
) -> None:
    address = "two.browsers@demo.invalid"
    begin(page, demo, address)
    code, link = demo.code_and_link(address)
    other = chromium.new_context().new_page()
    other.goto(link)
    assert code in re.sub(r"\s+", " ", other.inner_text("main"))
    assert demo.site in other.inner_text("main")
    expect(page).to_have_title("Portier – Confirm your address")
    type_code(page, code)
    expect(page.locator("#email")).to_have_text(address, timeout=30_000)
    other.context.close()


def test_link_without_script_needs_one_press_of_a_button(demo: Demo, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    address = "no.script@demo.invalid"
    begin(page, demo, address, "form-post")
    _, link = demo.code_and_link(address)
    page.goto(link)
    page.click("main button")
    page.click("main button")  # the page that carries the answer to the site
    expect(page.locator("#email")).to_have_text(address, timeout=30_000)
    context.close()


def test_wrong_code_can_be_mended_and_another_mail_had(page: Page, demo: Demo) -> None:
    address = "second.try@demo.invalid"
    begin(page, demo, address)
    code, _ = demo.code_and_link(address)
    type_code(page, "aaaaaa bbbbbb")
    expect(page.locator("[role=alert]")).to_contain_text("not right")
    type_code(page, code.upper())
    expect(page.locator("#email")).to_have_text(address, timeout=30_000)


def test_cancel_leads_back_to_the_site(page: Page, demo: Demo) -> None:
    begin(page, demo, "no.thanks@demo.invalid")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[role=alert]")).to_contain_text("access_denied", timeout=30_000)
    assert page.url.startswith(demo.site)


def test_another_address_can_be_taken(page: Page, demo: Demo) -> None:
    begin(page, demo, "typo@demo.invalid")
    page.get_by_role("button", name="Use another address").click()
    page.fill("input[name=login_hint]", "right@demo.invalid")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Portier – Confirm your address", timeout=30_000)
    code, _ = demo.code_and_link("right@demo.invalid")
    type_code(page, code)
    expect(page.locator("#email")).to_have_text("right@demo.invalid", timeout=30_000)


def test_inbox_shows_the_mail(page: Page, demo: Demo) -> None:
    address = "look@demo.invalid"
    begin(page, demo, address)
    code, _ = demo.code_and_link(address)
    page.goto(demo.inbox)
    expect(page.locator("body")).to_contain_text(address)
    expect(page.locator("body")).to_contain_text(code)

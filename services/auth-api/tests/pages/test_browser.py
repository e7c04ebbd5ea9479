"""The pages in a real browser, under the CSP they are sent with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from auth_api.pages import ErrorKind, Locale, Pages

if TYPE_CHECKING:
    from .conftest import Site

pytestmark = pytest.mark.browser

AXE_RULES: dict[str, object] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


# Scripts that leave the page before anybody can look at it.
SELF_SUBMITTING = ("submit.js", "callback.js")


@contextmanager
def tab(
    browser: Browser,
    *,
    scheme: Literal["light", "dark"] = "light",
    forced_colors: Literal["active", "none"] = "none",
    script: bool = True,
    left_out: tuple[str, ...] = (),
    csp: bool = True,
) -> Iterator[Page]:
    """A page of a fresh browser profile that reports no broken CSP, no script error and no missing file."""
    context = browser.new_context(
        viewport={"width": 800, "height": 800},
        color_scheme=scheme,
        forced_colors=forced_colors,
        java_script_enabled=script,
        bypass_csp=not csp,
    )
    complaints: list[str] = []
    for name in left_out:
        context.route(f"**/*.{name}", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert not complaints


def violations(page: Page, site: Site, pages_by_name: dict[str, str], options: dict[str, object]) -> list[str]:
    """What axe finds on each of these pages."""
    found: list[str] = []
    for name, html in pages_by_name.items():
        page.goto(site.show(html))
        results = Axe().run(page, options=options)
        found += [f"{name}: {violation['id']} {violation['nodes']}" for violation in results.response["violations"]]
        assert results.response["passes"]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    browser: Browser, site: Site, every_page: dict[str, str], scheme: Literal["light", "dark"]
) -> None:
    with tab(browser, scheme=scheme, left_out=SELF_SUBMITTING) as page:
        assert violations(page, site, every_page, AXE_RULES) == []


def test_axe_finds_nothing_in_forced_colours(browser: Browser, site: Site, english_pages: dict[str, str]) -> None:
    # The contrast is that of the person's own palette, which axe does not see.
    rules = {**AXE_RULES, "rules": {"color-contrast": {"enabled": False}}}
    with tab(browser, forced_colors="active", left_out=SELF_SUBMITTING) as page:
        assert violations(page, site, english_pages, rules) == []


SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
LOW_TARGETS = """[...document.querySelectorAll("button, .button, input:not([type=hidden])")]
    .filter((element) => element.getBoundingClientRect().height < 44).length"""


def test_zoomed_page_scrolls_in_one_direction_only_and_is_easy_to_press(
    browser: Browser, site: Site, every_page: dict[str, str]
) -> None:
    """1280 px wide at 200 % is 640 CSS pixels, at 400 % it is 320 (WCAG 1.4.4 and 1.4.10)."""
    with tab(browser, left_out=SELF_SUBMITTING) as page:
        for name, html in every_page.items():
            page.goto(site.show(html))
            for width in (640, 320):
                page.set_viewport_size({"width": width, "height": 800})
                assert not page.evaluate(SCROLLS_SIDEWAYS), (name, width)
            assert page.evaluate(LOW_TARGETS) == 0, name


SPACED = "* { line-height: 1.5; letter-spacing: .12em; word-spacing: .16em } p { margin-bottom: 2em }"


def test_text_that_people_space_out_stays_on_a_narrow_page(
    browser: Browser, site: Site, every_page: dict[str, str]
) -> None:
    """WCAG 1.4.12, at the width of 1.4.10."""
    with tab(browser, left_out=SELF_SUBMITTING, csp=False) as page:
        page.set_viewport_size({"width": 320, "height": 800})
        for name, html in every_page.items():
            page.goto(site.show(html))
            page.add_style_tag(content=SPACED)
            assert not page.evaluate(SCROLLS_SIDEWAYS), name


TO_PRESS = "a, button:not(:disabled), input:not([type=hidden])"


def test_keyboard_alone_reaches_all_that_can_be_pressed_and_shows_where_it_is(
    browser: Browser, site: Site, english_pages: dict[str, str]
) -> None:
    with tab(browser, left_out=SELF_SUBMITTING) as page:
        for name, html in english_pages.items():
            page.goto(site.show(html))
            expected = page.locator(TO_PRESS).count()
            reached: set[int] = set()
            for _ in range(expected + 2):  # from wherever the page begins, once around
                index = page.evaluate(f"[...document.querySelectorAll('{TO_PRESS}')].indexOf(document.activeElement)")
                if index >= 0:
                    reached.add(index)
                    outline = page.locator(":focus").evaluate("element => getComputedStyle(element).outlineStyle")
                    assert outline == "solid", (name, index)
                page.keyboard.press("Tab")
            assert len(reached) == expected, name


def test_page_without_script_shows_all_of_its_buttons(browser: Browser, site: Site, every_page: dict[str, str]) -> None:
    with tab(browser, script=False) as page:
        for name, html in every_page.items():
            page.goto(site.show(html))
            for button in page.locator("button, a.button").all():
                expect(button).to_be_visible()
                assert button.is_enabled(), name


def test_error_page_begins_at_what_went_wrong(browser: Browser, site: Site, pages: Pages) -> None:
    with tab(browser) as page:
        page.goto(site.show(pages.error(locale=Locale.EN, kind=ErrorKind.EXPIRED)))
        page.wait_for_function("() => document.activeElement === document.querySelector('h1')")


def test_form_is_sent_once_however_often_its_button_is_pressed(browser: Browser, site: Site, pages: Pages) -> None:
    html = pages.login_hint(locale=Locale.EN, site="https://a.example", parameters={"_login_hint": "a@b.example"})
    with tab(browser) as page:
        page.goto(site.show(html))
        page.evaluate("for (let i = 0; i < 5; i++) document.querySelector('button').click()")
        assert site.next_post() == ("/auth", [("login_hint", "a@b.example")])
        page.wait_for_load_state("networkidle")
    assert not site.posts


def wait_for_focus(page: Page, name: str) -> None:
    """Chromium gives an autofocus field the focus some time after the page has loaded."""
    page.wait_for_function("name => document.activeElement?.id === name", arg=name)


def test_address_form_is_filled_and_sent_by_keyboard_alone(browser: Browser, site: Site, pages: Pages) -> None:
    html = pages.login_hint(locale=Locale.EN, site="https://a.example", parameters={"state": "s"})
    with tab(browser) as page:
        page.goto(site.show(html))
        wait_for_focus(page, "login_hint")
        page.keyboard.type("björn@göteborg.example")
        page.keyboard.press("Enter")
        assert site.next_post() == ("/auth", [("state", "s"), ("login_hint", "björn@göteborg.example")])


def test_address_form_does_not_send_what_cannot_be_an_address(browser: Browser, site: Site, pages: Pages) -> None:
    html = pages.login_hint(locale=Locale.EN, site="https://a.example", parameters={})
    with tab(browser) as page:
        page.goto(site.show(html))
        wait_for_focus(page, "login_hint")
        page.keyboard.type("björn")
        page.keyboard.press("Enter")
        assert page.locator("#login_hint:invalid").count() == 1
        page.keyboard.type('@"@a.example')
        page.keyboard.press("Enter")
        assert site.next_post() == ("/auth", [("login_hint", 'björn@"@a.example')])
    assert not site.posts


def confirm_page(pages: Pages, *, resend_in: int = 0) -> str:
    return pages.confirm(
        locale=Locale.EN,
        site="https://a.example",
        address="a@b.example",
        session="s1",
        resend_in=resend_in,
        other_address={"client_id": "c"},
        can_cancel=True,
    )


def test_keyboard_reaches_everything_in_order_and_shows_where_it_is(browser: Browser, site: Site, pages: Pages) -> None:
    seen: list[str] = []
    with tab(browser) as page:
        page.goto(site.show(confirm_page(pages)))
        for _ in range(5):
            focused = page.locator(":focus")
            seen.append(focused.get_attribute("name") or focused.inner_text())
            assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
            page.keyboard.press("Tab")
    assert seen == ["code", "Confirm", "Send it again", "Use another address", "Cancel"]


def test_code_is_typed_or_pasted_in_any_shape_and_sent_by_keyboard(browser: Browser, site: Site, pages: Pages) -> None:
    with tab(browser) as page:
        page.goto(site.show(confirm_page(pages)))
        wait_for_focus(page, "code")
        page.keyboard.insert_text(" ABC134 ghi689 ")
        page.keyboard.press("Enter")
        assert site.next_post() == ("/confirm", [("session", "s1"), ("device_ok", "1"), ("code", " ABC134 ghi689 ")])


def test_resend_counts_down_and_is_then_free(browser: Browser, site: Site, pages: Pages) -> None:
    with tab(browser) as page:
        page.goto(site.show(confirm_page(pages, resend_in=2)))
        button = page.locator("#resend")
        assert button.is_disabled()
        assert button.inner_text() in {"Send it again (2 s)", "Send it again (1 s)"}
        assert page.locator("#wait").inner_text() == ""
        expect(page.locator("#wait")).to_have_text("You can have it sent again now.", timeout=10_000)
        page.get_by_role("button", name="Send it again", exact=True).click()
        assert site.next_post() == ("/resend", [("session", "s1")])


def test_resend_without_script_is_free_at_once_and_says_when(browser: Browser, site: Site, pages: Pages) -> None:
    with tab(browser, script=False) as page:
        page.goto(site.show(confirm_page(pages, resend_in=30)))
        assert page.locator("#wait").inner_text() == "You can have it sent again in 30 seconds."
        page.locator("#resend").click()
        assert site.next_post() == ("/resend", [("session", "s1")])


@pytest.mark.parametrize("script", [True, False])
def test_link_in_the_same_browser_is_sent_by_script_or_by_the_button(
    browser: Browser, site: Site, pages: Pages, script: bool
) -> None:
    html = pages.same_browser(
        locale=Locale.EN, site="https://a.example", address="me@b.example", session="s1", code="abcdefghijkm"
    )
    with tab(browser, script=script) as page:
        page.goto(site.show(html), wait_until="commit")
        if not script:
            page.get_by_role("button").click()
        expected = [("session", "s1"), ("code", "abcdefghijkm"), ("device_ok", "1")]
        assert site.next_post() == ("/confirm", expected)


def test_link_in_another_browser_waits_for_the_button(browser: Browser, site: Site, pages: Pages) -> None:
    html = pages.other_device(
        locale=Locale.EN, site="https://a.example", address="me@b.example", session="s1", code="abcdefghijkm"
    )
    with tab(browser) as page:
        page.goto(site.show(html), wait_until="networkidle")
        assert not site.posts
        page.get_by_role("button", name="Log in here").click()
        expected = [("session", "s1"), ("code", "abcdefghijkm"), ("device_ok", "1")]
        assert site.next_post() == ("/confirm", expected)


@pytest.mark.parametrize("script", [True, False])
def test_form_post_is_sent_by_script_or_by_the_button_whatever_its_fields_are_called(
    browser: Browser, site: Site, pages: Pages, script: bool
) -> None:
    fields = {"state": 'a"<b> &amp;é', "submit": "x", "action": "y", "method": "z"}
    html = pages.form_post(
        locale=Locale.EN, site="https://a.example", redirect_uri=f"{site.origin}/back?x=1&y=2", fields=fields
    )
    with tab(browser, script=script) as page:
        page.goto(site.show(html), wait_until="commit")
        if not script:
            page.get_by_role("button").click()
        assert site.next_post() == ("/back?x=1&y=2", list(fields.items()))


def test_callback_posts_query_and_fragment_and_leaves_no_token_in_the_address(
    browser: Browser, site: Site, pages: Pages
) -> None:
    site.show(pages.callback(locale=Locale.EN, fields={"iss": "https://op.example"}), "/callback")
    with tab(browser) as page:
        page.goto(f"{site.origin}/callback?iss=https://op.example#state=s%201&id_token=a.b%2Bc", wait_until="commit")
        expected = [("iss", "https://op.example"), ("state", "s 1"), ("id_token", "a.b+c")]
        assert site.next_post() == ("/callback", expected)
        page.wait_for_url(f"{site.origin}/callback")


def test_link_to_callback_presses_no_button_by_its_fragment(browser: Browser, site: Site, pages: Pages) -> None:
    site.show(pages.callback(locale=Locale.EN, fields={"_again": "1"}), "/callback")
    with tab(browser) as page:
        page.goto(f"{site.origin}/callback#state=s&device_ok=1&_again=2&id_token=x", wait_until="commit")
        assert site.next_post() == ("/callback", [("_again", "1"), ("state", "s"), ("id_token", "x")])


def test_callback_without_script_posts_the_query_by_its_button(browser: Browser, site: Site, pages: Pages) -> None:
    site.show(pages.callback(locale=Locale.EN, fields={"state": "s"}), "/callback")
    with tab(browser, script=False) as page:
        page.goto(f"{site.origin}/callback?state=s#id_token=x")
        page.get_by_role("button").click()
        assert site.next_post() == ("/callback", [("state", "s")])


@pytest.mark.parametrize("script", [True, False])
def test_unavailable_page_asks_again_by_itself(browser: Browser, site: Site, pages: Pages, script: bool) -> None:
    html = pages.error(locale=Locale.EN, kind=ErrorKind.UNAVAILABLE, wait=1, try_again="/again?state=s&scope=openid")
    site.show(pages.home(locale=Locale.EN), "/again")
    with tab(browser, script=script) as page:
        page.goto(site.show(html))
        page.wait_for_url(f"{site.origin}/again?state=s&scope=openid")


def test_unavailable_page_posts_again_by_itself_only_what_has_not_been_carried_out(
    browser: Browser, site: Site, pages: Pages
) -> None:
    def page_of(*, by_itself: bool) -> str:
        fields = {"session": "s", "code": "abc def"}
        kind = ErrorKind.UNAVAILABLE
        return pages.error(
            locale=Locale.EN, kind=kind, wait=1, try_again="/confirm", fields=fields, by_itself=by_itself
        )

    with tab(browser) as page:
        page.goto(site.show(page_of(by_itself=True)), wait_until="commit")
        assert site.next_post() == ("/confirm", [("session", "s"), ("code", "abc def")])
        page.wait_for_url(f"{site.origin}/confirm")
        page.goto(site.show(page_of(by_itself=False)))
        assert not page.locator("script[src*=retry]").count()
        page.get_by_role("button").click()
        assert site.next_post() == ("/confirm", [("session", "s"), ("code", "abc def")])

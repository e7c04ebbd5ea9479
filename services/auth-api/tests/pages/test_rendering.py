"""What every page must be, whatever it says: safe, small, labelled, in the right language."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth_api.pages import ErrorKind, Locale, Notice, Pages, UnsafeUrlError

Attributes = dict[str, str | None]


class Document(HTMLParser):
    """A page's elements in order, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: dict[int, str] = {}
        self._open: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(len(self.elements))
        self.texts[len(self.elements)] = ""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.elements[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.texts[index] += data

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str, /, **wanted: str) -> str:
        [index] = [
            index
            for index, (name, attributes) in enumerate(self.elements)
            if tag in {name, "*"} and wanted.items() <= attributes.items()
        ]
        return " ".join(self.texts[index].split())

    def head(self) -> str:
        return self.text("*", **{"class": "head"})

    def forms(self) -> dict[str, dict[str, str | None]]:
        """The fields of each form, by where it goes."""
        forms: dict[str, dict[str, str | None]] = {}
        action = ""
        for tag, attributes in self.elements:
            if tag == "form":
                assert attributes["method"] == "post"
                action = attributes["action"] or ""
                forms[action] = {}
            elif tag == "input":
                forms[action][attributes["name"] or ""] = attributes.get("value")
        return forms

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attributes))) for tag, attributes in self.elements]


def scripts(document: Document) -> set[str]:
    """The names of a page's scripts."""
    return {(script["src"] or "").rpartition("/")[2].partition(".")[2] for script in document.all("script")}


def test_page_is_a_whole_document_in_its_language(html: str, locale: Locale) -> None:
    document = Document(html)
    assert html.startswith("<!doctype html>\n")
    assert document.all("html") == [{"lang": locale.value, "dir": "ltr"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in document.all("meta")
    assert document.text("title").startswith("Portier – ")
    assert document.text("h1")
    assert document.head()


def test_page_has_a_label_for_every_field_and_ids_that_are_unique_and_exist(html: str) -> None:
    document = Document(html)
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    fields = {field["id"] for field in document.all("input") if field.get("type") != "hidden"}
    assert {label["for"] for label in document.all("label")} == fields
    for _, attributes in document.elements:
        named = f"{attributes.get('aria-describedby') or ''} {attributes.get('aria-labelledby') or ''}".split()
        assert set(named) <= set(ids)


def test_page_brings_nothing_inline_and_loads_nothing_remote(html: str, pages: Pages) -> None:
    document = Document(html)
    assert not document.all("style")
    for tag, attributes in document.elements:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if tag in {"script", "img", "link"}:
            assert pages.static_files[attributes.get("src") or attributes["href"] or ""].immutable
    assert all("src" in script and "defer" in script for script in document.all("script"))
    assert not re.search(r"<script[^>]*>[^<]", html)


def test_page_with_all_it_loads_stays_below_20_kilobytes(html: str, pages: Pages) -> None:
    document = Document(html)
    loaded = {attributes.get("src") or attributes.get("href") for _, attributes in document.elements}
    files = [file for path, file in pages.static_files.items() if path in loaded]
    assert len(html.encode()) + sum(len(file.content) for file in files) < 20_000


def test_english_page_has_the_titles_that_existing_clients_look_for(pages: Pages) -> None:
    confirm = Document(pages.confirm(locale=Locale.EN, site="https://a.example", address="a@b.example", session="s"))
    error = Document(pages.error(locale=Locale.EN, kind=ErrorKind.EXPIRED))
    assert confirm.text("title") == "Portier – Confirm your address"
    assert error.text("title") == "Portier – Error"
    assert error.head() == "The session has expired."


def test_other_languages_have_their_own_title(pages: Pages) -> None:
    titles = {Document(pages.error(locale=locale, kind=ErrorKind.EXPIRED)).text("title") for locale in Locale}
    assert titles == {"Portier – Error", "Portier – Fehler", "Portier – Erreur", "Portier – Fout"}


def test_address_form_repeats_the_request_but_for_what_begins_with_an_underscore(pages: Pages) -> None:
    parameters = {"client_id": "c", "state": "", "_login_hint": "ada@b.example", "_x": "y", "login_hint": ""}
    document = Document(pages.login_hint(locale=Locale.EN, site="https://a.example", parameters=parameters))
    assert document.forms() == {"/auth": {"client_id": "c", "state": "", "login_hint": "ada@b.example"}}
    assert document.text("p", **{"class": "site"}) == "Log in to https://a.example"


def test_code_form_shows_address_and_site_and_posts_what_confirm_expects(pages: Pages) -> None:
    html = pages.confirm(locale=Locale.EN, site="https://göteborg.example", address="Ada@B.example", session="s1")
    document = Document(html)
    assert document.forms() == {"/confirm": {"session": "s1", "device_ok": "1", "code": None}}
    assert "Ada@B.example" in document.head()
    assert document.text("p", **{"class": "site"}) == "Log in to https://göteborg.example"
    assert document.text("title") == "Portier – Confirm your address"
    [field] = [field for field in document.all("input") if field["name"] == "code"]
    assert field["autocomplete"] == "one-time-code"
    assert field["inputmode"] == "text"
    assert field["autocapitalize"] == "none"
    assert field["spellcheck"] == "false"
    assert "maxlength" not in field
    assert "aria-invalid" not in field


def test_code_form_offers_resend_other_address_and_cancel_when_asked_to(pages: Pages) -> None:
    html = pages.confirm(
        locale=Locale.EN,
        site="https://a.example",
        address="a@b.example",
        session="s1",
        resend_in=30,
        other_address={"client_id": "c", "_login_hint": "a@b.example"},
        can_cancel=True,
    )
    forms = Document(html).forms()
    assert forms["/resend"] == {"session": "s1"}
    assert forms["/auth"] == {"client_id": "c", "_login_hint": "a@b.example"}
    assert forms["/cancel"] == {"session": "s1"}
    assert "You can have it sent again in 30 seconds." in html


@pytest.mark.parametrize(("left", "sentence"), [(1, "You have one more try."), (3, "You have 3 more tries.")])
def test_wrong_code_is_an_alert_that_describes_the_field(pages: Pages, left: int, sentence: str) -> None:
    html = pages.confirm(
        locale=Locale.EN, site="https://a.example", address="a@b.example", session="s", guesses_left=left
    )
    document = Document(html)
    [field] = [field for field in document.all("input") if field["name"] == "code"]
    assert field["aria-invalid"] == "true"
    assert field["aria-describedby"] == "error head"
    told = document.text("p", id="error", role="alert")
    assert told == f"This code is not right. Please compare it with the one in the email. {sentence}"
    assert document.text("title") == "Portier – Wrong code"


@pytest.mark.parametrize("notice", list(Notice))
def test_news_about_the_mail_is_announced(pages: Pages, notice: Notice) -> None:
    html = pages.confirm(locale=Locale.EN, site="https://a.example", address="a@b.example", session="s", notice=notice)
    document = Document(html)
    assert document.text("p", role="status", id="notice")
    [field] = [field for field in document.all("input") if field["name"] == "code"]
    assert field["aria-describedby"] == "notice head"  # the field has the focus, so this is read out


def test_title_says_that_the_mail_has_been_sent_again(pages: Pages) -> None:
    html = pages.confirm(
        locale=Locale.EN, site="https://a.example", address="a@b.example", session="s", notice=Notice.RESENT
    )
    assert Document(html).text("title") == "Portier – Email sent again"


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_focus_is_on_what_went_wrong(pages: Pages, kind: ErrorKind) -> None:
    [heading] = Document(pages.error(locale=Locale.EN, kind=kind)).all("h1")
    assert "autofocus" in heading
    assert heading["tabindex"] == "-1"


def test_link_in_the_same_browser_posts_itself(pages: Pages) -> None:
    document = Document(
        pages.same_browser(
            locale=Locale.EN, site="https://a.example", address="me@b.example", session="s1", code="abcdefghijkm"
        )
    )
    assert document.forms() == {"/confirm": {"session": "s1", "code": "abcdefghijkm", "device_ok": "1"}}
    assert "data-submit" in document.all("form")[0]
    assert scripts(document) == {"once.js", "submit.js"}


def test_link_in_another_browser_shows_the_code_and_never_posts_itself(pages: Pages) -> None:
    document = Document(
        pages.other_device(
            locale=Locale.EN, site="https://a.example", address="me@b.example", session="s1", code="abcdefghijkm"
        )
    )
    assert document.head() == "Finish logging in to https://a.example"
    assert document.text("p", translate="no") == "abcdef ghijkm"
    assert "me@b.example" in document.text("section")
    assert document.forms() == {"/confirm": {"session": "s1", "code": "abcdefghijkm", "device_ok": "1"}}
    assert scripts(document) == {"once.js"}


def test_form_post_carries_all_fields_to_the_redirect_uri(pages: Pages) -> None:
    uri = "https://a.example/back?x=1&y=2"
    html = pages.form_post(
        locale=Locale.EN, site="https://a.example", redirect_uri=uri, fields={"state": '"', "code": "c"}
    )
    assert Document(html).forms() == {uri: {"state": '"', "code": "c"}}


def test_callback_puts_the_query_into_its_form(pages: Pages) -> None:
    document = Document(pages.callback(locale=Locale.EN, fields={"state": "s", "error": "e"}))
    assert document.forms() == {"/callback": {"state": "s", "error": "e"}}
    assert document.all("noscript")


def test_error_page_gives_description_and_reference(pages: Pages) -> None:
    html = pages.error(locale=Locale.DE, kind=ErrorKind.INTERNAL, description="it broke", reference="k3x9q1")
    assert Document(html).text("p", lang="en") == "it broke [REF:k3x9q1]"
    assert Document(html).text("title") == "Portier – Fehler"


@pytest.mark.parametrize(
    ("wait", "sentence"),
    [
        (1, "Please wait one second, then try again."),
        (99, "Please wait 99 seconds, then try again."),
        (120, "Please wait 2 minutes, then try again."),
        (121, "Please wait 3 minutes, then try again."),
        (None, "Please wait a while, then try again."),
    ],
)
def test_too_many_attempts_says_how_long_to_wait(pages: Pages, wait: int | None, sentence: str) -> None:
    assert sentence in pages.error(locale=Locale.EN, kind=ErrorKind.RATE_LIMITED, wait=wait)


def test_unavailable_page_comes_back_by_itself_only_when_told_where(pages: Pages) -> None:
    told = Document(pages.error(locale=Locale.EN, kind=ErrorKind.UNAVAILABLE, wait=7, try_again="/auth?a=1&b=2"))
    assert {"http-equiv": "refresh", "content": "7; url=/auth?a=1&b=2"} in told.all("meta")
    assert told.text("a") == "Try again"
    untold = Document(pages.error(locale=Locale.EN, kind=ErrorKind.UNAVAILABLE))
    assert not [meta for meta in untold.all("meta") if "http-equiv" in meta]
    assert scripts(untold) == {"once.js"}


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "/\\evil.example", "", "mailto:a@b", " https://a"],
)
def test_address_that_is_neither_web_nor_ours_gets_into_no_page(pages: Pages, url: str) -> None:
    with pytest.raises(UnsafeUrlError):
        pages.error(locale=Locale.EN, kind=ErrorKind.PROVIDER, try_again=url)
    with pytest.raises(UnsafeUrlError):
        pages.cancelled(locale=Locale.EN, site="https://a.example", site_link=url)
    with pytest.raises(UnsafeUrlError):
        pages.form_post(locale=Locale.EN, site="https://a.example", redirect_uri=url, fields={})


def hostile_page(pages: Pages, locale: Locale, text: str) -> list[str]:
    """Every page with `text` in every place that takes text."""
    url = f"https://a.example/{text}"
    common = {"client_id": text, f"x{text}": "value"}
    return [
        pages.login_hint(locale=locale, site=text, parameters=common | {"_login_hint": text}),
        pages.confirm(
            locale=locale,
            site=text,
            address=text,
            session=text,
            resend_in=5,
            other_address=common,
            can_cancel=True,
            guesses_left=2,
        ),
        pages.same_browser(locale=locale, site=text, address=text, session=text, code=text),
        pages.other_device(locale=locale, site=text, address=text, session=text, code=text),
        pages.form_post(locale=locale, site=text, redirect_uri=url, fields=common),
        pages.callback(locale=locale, fields=common),
        pages.provider_login(locale=locale, site=text, address=text, fields=common),
        pages.cancelled(locale=locale, site=text, site_link=url),
        pages.came_back(locale=locale, address=text, other_address=common, site_link=url),
        pages.came_back(locale=locale, address=text, other_address=common, site_link=url, just_now=True),
        *(
            pages.error(locale=locale, kind=kind, description=f".{text}", reference=text or "r", try_again=url)
            for kind in ErrorKind
        ),
    ]


_MARKUP = st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onfocus='x", "%(site)s", "{{ 7*7 }}"]
)
PAGES = Pages()


@given(text=st.one_of(_MARKUP, st.text(), st.text(alphabet="<>\"'&%(){}=/ -!sa")), locale=st.sampled_from(Locale))
def test_hostile_text_changes_no_page_but_for_its_text(text: str, locale: Locale) -> None:
    harmless = hostile_page(PAGES, locale, "harmless")
    for html, expected in zip(hostile_page(PAGES, locale, text), harmless, strict=True):
        assert Document(html).shape() == Document(expected).shape()


@given(value=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"])))
def test_field_value_arrives_as_it_was(value: str) -> None:
    html = PAGES.form_post(locale=Locale.EN, site="x", redirect_uri="https://a.example/", fields={"state": value})
    assert Document(html).forms() == {"https://a.example/": {"state": value}}

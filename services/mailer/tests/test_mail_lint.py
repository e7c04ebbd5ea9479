"""What mail servers, spam filters and mail programs take offence at: a lint of every language's mail."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from unicodedata import bidirectional

import fast_mail_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.mails import Mail, Sender, one_line
from mailer.recipients import parse_recipient
from mailer.rendering import LOCALES, Renderer

from .processes import job

RENDERER = Renderer(Sender.of("Zoë’s Portier", parse_recipient("login@broker.example")))
STRICT = policy.default.clone(raise_on_defect=True)
EACH = pytest.mark.parametrize("locale", LOCALES)
VOID = frozenset({"meta"})
# Whatever makes a mail program fetch something, run something or ask for something.
LOADING = frozenset({"img", "link", "script", "iframe", "object", "embed", "video", "audio", "form", "input", "base"})
SHOUTED = re.compile(r"\b[A-ZÀ-Þ]{4,}\b|!!|\$\$|100 ?%", re.ASCII)


def rendered(**changes: object) -> Mail:
    asked = job("jane@example.org", **changes)
    return RENDERER.render(asked, now=asked.requested_at)


class Outline(HTMLParser):
    """Elements and visible words of a page, less those on its button; raises where nothing is open to be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title", "a"} & set(self.open):
            self.words += data.split()


@EACH
def test_strict_parser_finds_no_defect(locale: str) -> None:
    message = message_from_bytes(rendered(locale=locale).to_bytes(), policy=STRICT)
    assert isinstance(message, EmailMessage)
    assert all(len(values) == 1 for values in ([*message.get_all(name, [])] for name in message))
    for part in (message, *message.iter_parts()):
        assert not part.defects
        assert not any(value.defects for value in part.values())
    sent = message["Date"].datetime
    assert abs(datetime.now(UTC) - sent) < timedelta(minutes=5)
    assert sent.utcoffset() == timedelta(0)


@EACH
def test_another_parser_reads_the_same_mail(locale: str) -> None:
    mail = rendered(locale=locale, site="https://bücher.example")
    read = fast_mail_parser.parse_email(mail.to_bytes())
    assert not read.warnings
    assert (read.subject, read.headers["Message-ID"]) == (mail.subject, [mail.message_id])
    assert [part.replace("\r\n", "\n") for part in read.text_plain] == [mail.text]
    assert [part.replace("\r\n", "\n") for part in read.text_html] == [mail.html]


@given(site=st.text(max_size=200), name=st.text(max_size=60))
def test_another_parser_reads_the_same_mail_whatever_the_site(site: str, name: str) -> None:
    renderer = Renderer(Sender.of(name, parse_recipient("login@broker.example")))
    asked = job("jane@example.org", site=site)
    mail = renderer.render(asked, now=asked.requested_at)
    read = fast_mail_parser.parse_email(mail.to_bytes())
    assert not read.warnings
    assert "".join(read.subject.split()) == "".join(mail.subject.split())
    assert [part.replace("\r\n", "\n") for part in read.text_plain] == [mail.text]
    Outline(mail.html)


@EACH
def test_mail_is_seven_bit_and_its_lines_are_short(locale: str) -> None:
    content = rendered(locale=locale, site="https://bücher.example").to_bytes()
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 78


@EACH
def test_html_loads_nothing_and_has_one_link(locale: str) -> None:
    mail = rendered(locale=locale)
    outline = Outline(mail.html)
    assert not LOADING & outline.elements.keys()
    assert outline.elements["a"] == outline.elements["h1"] == 1
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name in ("src", "background")]
    assert not re.search(r"url\(|@import|expression\(|http-equiv", mail.html)
    hosts = set(re.findall(r"https?://([^/\"<\s?]+)", mail.html))
    assert hosts == {"login.example", "shop.example"}
    assert mail.html.count("<title>") == 1


@EACH
def test_text_alone_says_everything(locale: str) -> None:
    mail = rendered(locale=locale)
    seen = set(Outline(mail.html).words)
    told = set(" ".join((mail.subject, mail.text, "Zoë’s Portier", "shop.example")).split())
    assert seen <= told
    assert {"abcdef", "134567", mail.text.split("\n")[4]} <= set(mail.text.split())
    assert max(len(line) for line in mail.text.split("\n")) < 200


@EACH
def test_words_do_not_shout(locale: str) -> None:
    mail = rendered(locale=locale)
    assert not SHOUTED.search(mail.subject + mail.text)
    assert len(mail.subject) < 70
    # Filters count how much of an HTML part is markup; ours is small, and no text is hidden in it.
    assert len(mail.html) < 6000
    assert not re.search(r"display:\s*none|font-size:\s*[0-9]px|visibility", mail.html)


@pytest.mark.parametrize("site", ["https://דוגמה.example", "https://مثال.example", "https://דוגמה.example:8443"])
def test_site_that_runs_to_the_left_turns_nothing_around(site: str) -> None:
    mail = rendered(site=site)
    for text in (mail.subject, mail.text):
        assert f"\u2066{site}\u2069" in text
    assert f'<bdi dir="ltr">{site.removeprefix("https://")}</bdi>' in mail.html
    assert message_from_bytes(mail.to_bytes(), policy=STRICT)["Subject"] == mail.subject


@given(site=st.text(max_size=60))
def test_no_site_leaves_its_isolate(site: str) -> None:
    mail = rendered(site=site)
    assert sorted(c for c in mail.subject if not c.isprintable()) in ([], ["\u2066", "\u2069"])
    if any(bidirectional(c) in ("R", "AL", "AN") for c in one_line(site)):
        assert f"\u2066{one_line(site)}\u2069" in mail.subject


@pytest.mark.parametrize("mark", ["\u200b", "\u200d", "\u00ad", "\u2060", "\u202e", "\u061c", "\u2068", "\ufeff"])
def test_mark_that_nobody_sees_is_not_passed_on(mark: str) -> None:
    mail = rendered(site=f"https://pay{mark}pal.example")
    assert mark not in mail.subject + mail.text + mail.html
    assert "https://pay pal.example" in mail.subject

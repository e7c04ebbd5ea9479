"""Mails as a real parser reads them, whatever goes into them."""

from __future__ import annotations

import re
import string
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import MalformedMailError
from mailer.mails import BOUNDARY, Mail, Sender, one_line
from mailer.recipients import parse_recipient
from mailer.rendering import LOCALES, Renderer

from .processes import job

SENDER = Sender.of("Portier", parse_recipient("login@broker.example"))
RENDERER = Renderer(SENDER)
URL_TEXT = st.text(string.ascii_letters + string.digits + "-._~%&=?+/:@!$'()*,;<>\"\\|^`{}[]", min_size=1, max_size=200)


def parsed(mail: Mail) -> EmailMessage:
    content = mail.to_bytes()
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def parts(mail: Mail) -> tuple[str, str]:
    text, html = parsed(mail).iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    return text.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")


@pytest.mark.parametrize("locale", LOCALES)
def test_mail_has_the_headers_and_lines_that_clients_and_filters_look_for(locale: str) -> None:
    asked = job("jane@example.org", locale=locale, site="https://bücher.example")
    mail = RENDERER.render(asked, now=asked.requested_at)
    message = parsed(mail)
    assert parseaddr(message["From"]) == ("Portier", "login@broker.example")
    assert message["To"].addresses[0].addr_spec == "jane@example.org"
    assert "https://bücher.example" in message["Subject"]
    assert message["Message-ID"] == f"<{asked.id}@broker.example>"
    assert message["Date"].datetime is not None
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["List-Id"] == "Authentication <auth.broker.example>"
    assert message["Content-Language"] == locale
    assert message.get_content_type() == "multipart/alternative"
    text, html = parts(mail)
    assert re.findall(r"(?m)^[a-z0-9]{6} [a-z0-9]{6}$", text) == ["abcdef 134567"]
    assert re.findall(r"(?m)^https://login.example/confirm\?.+$", text) == [asked.link]
    assert "15" in text
    assert asked.link.replace("&", "&amp;") in html
    assert "abcdef 134567" in html
    assert f'lang="{locale}"' in html
    assert not re.search(r"<img|url\(|src=|http-equiv|<script|<link", html)


def test_every_attempt_has_the_same_message_id() -> None:
    asked = job("jane@example.org")
    ids = {parsed(RENDERER.render(asked, now=asked.requested_at + late))["Message-ID"] for late in (0, 100)}
    assert len(ids) == 1


@given(site=st.text(max_size=300))
def test_no_site_breaks_out_of_its_place(site: str) -> None:
    asked = job("jane@example.org", site=site)
    mail = RENDERER.render(asked, now=asked.requested_at)
    message = parsed(mail)
    assert sorted(message.keys()) == sorted(parsed(RENDERER.render(job("a@b.example"), now=0)).keys())
    text, html = parts(mail)
    assert text.count("\n") == 13
    assert one_line(site) in text
    assert re.findall(r"(?m)^[a-z0-9]{6} [a-z0-9]{6}$", text) == ["abcdef 134567"]
    assert len(re.findall("<a ", html)) == 1
    subject = message["Subject"].replace("\u2066", "").replace("\u2069", "")
    assert "".join(subject.split()) == "".join(f"Finish logging in to {one_line(site)}".split())


@given(rest=URL_TEXT)
def test_link_is_whole_on_its_line_and_in_its_attribute(rest: str) -> None:
    link = f"https://login.example/confirm?{rest}"
    asked = job("jane@example.org", link=link)
    text, html = parts(RENDERER.render(asked, now=asked.requested_at))
    assert link in text.split("\n")
    assert len(re.findall(r'<a href="[^"<>]*" style=', html)) == 1


@given(st.text(max_size=400), st.text(max_size=400))
def test_any_text_survives_the_encoding(text: str, html: str) -> None:
    text, html = (part.encode("utf-8", "replace").decode() for part in (text, html))
    mail = Mail("id", SENDER, parse_recipient("a@b.example"), "s", text, html, ())
    assert f"--{BOUNDARY}" not in mail.to_bytes().decode().split("\r\n\r\n", 2)[2].partition(f"\r\n--{BOUNDARY}")[0]
    read = parts(mail)
    assert [part.splitlines() for part in read] == [
        ("\n".join(part.splitlines()) + "\n").splitlines() for part in (text, html)
    ]


@given(name=st.text(max_size=120))
def test_senders_name_is_read_back(name: str) -> None:
    mail = Mail("id", Sender.of(name, parse_recipient("a@b.example")), parse_recipient("c@d.example"), "s", "", "", ())
    [address] = parsed(mail)["From"].addresses
    assert address.addr_spec == "a@b.example"
    assert "".join(address.display_name.split()) == "".join(one_line(name).split())


@pytest.mark.parametrize(
    ("given", "command", "utf8"),
    [
        ("jane@example.org", "jane@example.org", False),
        ("a..b@example.org", '"a..b"@example.org', False),
        ('"jane doe"@example.com', '"jane doe"@example.com', False),
        ("björn@xn--gteborg-90a.test", "björn@xn--gteborg-90a.test", True),
        ("jane@göteborg.test", "jane@xn--gteborg-90a.test", False),
        ("jane@straße.test", "jane@xn--strae-oqa.test", False),
    ],
)
def test_address_is_written_as_commands_and_headers_need_it(given: str, command: str, utf8: bool) -> None:
    recipient = parse_recipient(given)
    assert (recipient.address, recipient.needs_smtputf8) == (command, utf8)


@pytest.mark.parametrize(
    "address",
    [
        "", "@", "a@", "@b.example", "a b@c.example", "a@b.example>", "a@b.example\r\nRCPT TO:<x@y.example>",
        "a\nb@c.example", "a\0@b.example", "<a@b.example", "a@b.example, c@d.example", "a@-b.example", "a@b..example",
        "a@[127.0.0.1]", '"a\r\nb"@c.example', 'a"b@c.example', "x" * 65 + "@b.example", "a@" + "b" * 64 + ".example",
        "jane%evil.example@c.example", "evil.example!jane@c.example", '"jane@evil.example"@c.example',
        '"a> <jane@evil.example"@c.example', '"evil.example:jane"@c.example', '"a,b"@c.example', "=?utf-8?q?a?=@c.de",
        "a\u2028b@c.example", "a\u202eb@c.example", "a\x85b@c.example", "a@b.example\x7f", "\ud800@b.example",
    ],
)  # fmt: skip
def test_hostile_address_is_refused(address: str) -> None:
    with pytest.raises(MalformedMailError):
        parse_recipient(address)


@given(st.text(max_size=80).map(lambda local: f"{local}@b.example") | st.text(max_size=80))
def test_what_is_let_through_holds_nothing_that_ends_a_command_or_header(address: str) -> None:
    try:
        recipient = parse_recipient(address)
    except MalformedMailError:
        return
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", recipient.address)
    assert recipient.address[0] == '"' or not re.search(r"[<>,\s]", recipient.address)
    mail = Mail("id", SENDER, recipient, "s", "t", "h", ())
    assert parsed(mail)["Subject"] == "s"
    assert len(parsed(mail)["To"].addresses) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"code": "ABC"},
        {"code": "abcdef 134567"},
        {"link": "javascript:alert(1)"},
        {"link": "https://"},
        {"link": "https://a.example/\r\nx"},
        {"to": "a@b\r\n.example"},
    ],
)
def test_job_that_asks_for_a_malformed_mail_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(MalformedMailError):
        RENDERER.render(job(**{"to": "jane@example.org", **change}), now=0)

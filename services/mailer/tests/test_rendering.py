"""Languages and an operator's own templates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import mailer
from mailer.mails import Sender
from mailer.recipients import parse_recipient
from mailer.rendering import LOCALES, Renderer
from service_kit.errors import OverrideError

from .processes import job

PACKAGE = Path(mailer.__file__).parent
SENDER = Sender.of("Portier", parse_recipient("login@broker.example"))
METHODS = [("rendering.py", "python"), ("templates/**.*", "jinja2")]


def wanted() -> set[str]:
    found = extract_from_dir(PACKAGE, METHODS, {"templates/**.*": {"newstyle_gettext": "true"}})
    return {message[0] if isinstance(message, tuple) else message for _, _, message, _, _ in found}


def forms_of(text: str | Iterable[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def first_of(text: str | Iterable[str]) -> str:
    return forms_of(text)[0]


@pytest.mark.parametrize("tag", [tag for tag in LOCALES if tag != "en"])
def test_no_text_is_missing_or_left_over(tag: str) -> None:
    with (PACKAGE / "locales" / tag.replace("-", "_") / "LC_MESSAGES" / "messages.po").open("rb") as file:
        catalogue = read_po(file)
    messages = [message for message in catalogue if message.id and not message.fuzzy]
    translated = {first_of(message.id) for message in messages if all(forms_of(message.string))}
    assert len(wanted()) == 7
    assert translated == wanted()


@pytest.mark.parametrize(
    ("asked", "written"),
    [("de", "de"), ("fr-CA", "fr-CA"), ("fr_CA", "fr-CA"), ("fr-CH", "fr"), ("nl-BE", "nl"), ("xx", "en"), ("", "en")],
)
def test_mail_is_in_the_language_asked_for_or_near_it(asked: str, written: str) -> None:
    mail = Renderer(SENDER).render(job("a@b.example", locale=asked), now=0)
    assert dict(mail.headers)["Content-Language"] == written


@pytest.mark.parametrize(("left", "words"), [(30, "one more minute"), (125, "2 minutes"), (900, "15 minutes")])
def test_mail_says_how_long_it_is_valid_from_now_on(left: float, words: str) -> None:
    asked = job("a@b.example")
    mail = Renderer(SENDER).render(asked, now=asked.requested_at + asked.expires_in - left)
    assert words in mail.text
    assert words in mail.html


def test_operators_template_and_catalogue_win(tmp_path: Path) -> None:
    (tmp_path / "tmpl").mkdir()
    (tmp_path / "tmpl" / "login_mail.txt").write_text("Own: {{ link }} {{ code }}")
    (tmp_path / "lang").mkdir()
    (tmp_path / "lang" / "de.po").write_text('msgid "Finish logging in"\nmsgstr "Los"\n')
    (tmp_path / "lang" / "fr_CA.po").write_text('msgid "Finish logging in"\nmsgstr "Envoye"\n')
    renderer = Renderer(SENDER, data_dir=tmp_path)
    mail = renderer.render(job("a@b.example", locale="de"), now=0)
    assert mail.text.startswith("Own: https://")
    assert ">Los</a>" in mail.html
    assert ">Envoye</a>" in renderer.render(job("a@b.example", locale="fr-CA"), now=0).html


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tmpl/login_mail.html", "{% if %}"),
        ("tmpl/login_mail.txt", "caf\udce9"),
        ("lang/de.po", "nonsense"),
        ("lang/de.po", 'msgid "Finish logging in to %(site)s"\nmsgstr "Los bei %(name)s"\n'),
    ],
)
def test_unusable_override_is_told_at_start(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(OverrideError, match=re.escape(Path(name).name)):
        Renderer(SENDER, data_dir=tmp_path)

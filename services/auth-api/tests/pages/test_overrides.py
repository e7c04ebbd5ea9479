"""Static files, and what operators put in their place."""

import hashlib
from pathlib import Path

import pytest

from auth_api.pages import ErrorKind, Locale, Pages
from service_kit.errors import OverrideError


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_static_file_is_served_under_the_hash_of_its_content(pages: Pages) -> None:
    [path] = [path for path, file in pages.static_files.items() if file.immutable and path.endswith(".portier.css")]
    file = pages.static_files[path]
    assert path == f"/static/{hashlib.sha256(file.content).hexdigest()[:16]}.portier.css"
    assert file.media_type == "text/css; charset=utf-8"
    assert file.etag.startswith('"')
    assert file.etag.endswith('"')


def test_static_file_of_another_version_gets_ours_but_not_forever(pages: Pages) -> None:
    file = pages.static_file("/static/0123456789abcdef.portier.css")
    assert file is not None
    assert file.content == pages.static_files["/static/portier.css"].content
    assert not file.immutable


@pytest.mark.parametrize(
    "path", ["", "/", "/static/", "/static/nothing.css", "/static/../rendering.py", "/static/0123456789abcdef.", "/x\n"]
)
def test_path_that_is_no_static_file_gives_nothing(pages: Pages, path: str) -> None:
    assert pages.static_file(path) is None


def test_scripts_are_modules_of_no_one_else(pages: Pages) -> None:
    for path, file in pages.static_files.items():
        assert b"http" not in file.content.replace(b"http://www.w3.org/2000/svg", b""), path
        assert b"animation" not in file.content
        assert b"transition" not in file.content


def test_operator_replaces_a_template_a_static_file_and_a_sentence(tmp_path: Path) -> None:
    write(
        tmp_path / "tmpl/home.html",
        '{% extends "base.html" %}{% block main %}<h1>Mine &amp; {{ _("Error") }}</h1>{% endblock %}',
    )
    write(tmp_path / "res/static/portier.css", "h1 { color: red }")
    write(tmp_path / "res/robots.txt", "User-agent: *\nDisallow: /\n")
    write(tmp_path / "res/.hidden", "secret")
    write(tmp_path / "lang/en.po", 'msgid "Error"\nmsgstr "Oops"\n')
    write(tmp_path / "lang/fr_CA.po", 'msgid "Error"\nmsgstr "Oupelaye"\n')
    write(tmp_path / "lang/de.po", 'msgid "Error"\nmsgstr "Hoppla"\n\nmsgid "No text of ours"\nmsgstr "x"\n')
    pages = Pages(data_dir=tmp_path)
    assert "<h1>Mine &amp; Hoppla</h1>" in pages.home(locale=Locale.DE)
    assert "<h1>Mine &amp; Oops</h1>" in pages.home(locale=Locale.EN)
    assert "<h1>Mine &amp; Oupelaye</h1>" in pages.home(locale=Locale.FR_CA)
    assert "Die Sitzung ist abgelaufen." in pages.error(locale=Locale.DE, kind=ErrorKind.EXPIRED)
    assert pages.static_files["/static/portier.css"].content == b"h1 { color: red }"
    assert pages.static_files["/robots.txt"].media_type == "text/plain; charset=utf-8"
    assert "/.hidden" not in pages.static_files


def test_folder_without_overrides_changes_nothing(tmp_path: Path, pages: Pages) -> None:
    assert Pages(data_dir=tmp_path / "missing").home(locale=Locale.FR) == pages.home(locale=Locale.FR)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("tmpl/home.html", "{% if %}"),
        ("lang/fr_CA.po", "what is this"),
        ("lang/de.po", 'msgid "%(site)s asks for your email address."\nmsgstr "%(seit)s fragt"\n'),
        ("lang/de.po", 'msgid "Error"\nmsgstr "100 %"\n'),
    ],
)
def test_override_that_cannot_be_used_is_refused_at_start_by_name(tmp_path: Path, path: str, content: str) -> None:
    write(tmp_path / path, content)
    with pytest.raises(OverrideError, match=Path(path).name):
        Pages(data_dir=tmp_path)

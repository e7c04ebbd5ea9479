"""Every sentence exists in every language, and the catalogues are those of the templates as they are."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

import auth_api
from auth_api.pages import Locale

PACKAGE = Path(auth_api.__file__).parent
TRANSLATED = [locale for locale in Locale if locale is not Locale.EN]


def as_tuple(text: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def extracted() -> set[tuple[str, ...]]:
    with (PACKAGE.parent / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    found = extract_from_dir(PACKAGE, method_map=methods, options_map=options)
    return {as_tuple(message) for _, _, message, _, _ in found}


@pytest.fixture(params=TRANSLATED)
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    path = PACKAGE / "locales" / request.param.replace("-", "_") / "LC_MESSAGES" / "messages.po"
    with path.open("rb") as file:
        return read_po(file, abort_invalid=True)


def test_catalogue_has_exactly_the_texts_of_the_templates(catalogue: Catalog) -> None:
    assert {as_tuple(message.id) for message in catalogue if message.id} == extracted()
    assert not catalogue.obsolete


def test_catalogue_has_no_gap_and_nothing_unsure(catalogue: Catalog) -> None:
    for message in catalogue:
        if message.id:
            assert all(as_tuple(message.string)), message.id
            assert len(as_tuple(message.string)) == (catalogue.num_plurals if message.pluralizable else 1)
            assert not message.fuzzy, message.id


def test_translation_has_the_placeholders_of_its_source(catalogue: Catalog) -> None:
    def placeholders(text: str) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)s|%", text))

    for message in catalogue:
        if message.id:
            last_id = as_tuple(message.id)[-1]
            assert placeholders(as_tuple(message.string)[-1]) == placeholders(last_id)


def test_translation_is_plain_text(catalogue: Catalog) -> None:
    texts = [text for message in catalogue if message.id for text in as_tuple(message.string)]
    assert not [text for text in texts if re.search(r"[<>\"&]", text)]


def test_catalogue_names_its_language(catalogue: Catalog) -> None:
    assert str(catalogue.locale) in {locale.replace("-", "_") for locale in TRANSLATED}


@pytest.mark.parametrize(
    ("folder", "forbidden"), [("fr", r"[^\u202f][!?;]|[^\u00a0]:"), ("fr_CA", r"\s[!?;]|[^\u00a0]:")]
)
def test_french_spacing_is_that_of_its_country(folder: str, forbidden: str) -> None:
    with (PACKAGE / "locales" / folder / "LC_MESSAGES" / "messages.po").open("rb") as file:
        catalogue = read_po(file)
    texts = [text for message in catalogue if message.id for text in as_tuple(message.string)]
    assert not [text for text in texts if re.search(forbidden, text)]
    assert not [text for text in texts if "'" in text]

"""Translations: gettext catalogues, read from their source at start. English is the text in the templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from gettext import c2py
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError, read_po

from mailer.errors import OverrideError

_PLACEHOLDER = re.compile(r"%\((\w+)\)")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language: by English text, one form or as many as the language has plural forms."""

    texts: Mapping[str, tuple[str, ...]]
    plural_form: Callable[[int], int]

    def gettext(self, message: str) -> str:
        """`message` in this language, its placeholders still in it."""
        return self.texts.get(message, (message,))[0]

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """The text for `number` things, its placeholders still in it."""
        forms = self.texts.get(singular)
        return forms[self.plural_form(number)] if forms else (singular if number == 1 else plural)


ENGLISH = Catalogue({}, c2py("n != 1"))


def read_catalogue(path: Path, *, override: Path | None = None) -> Catalogue:
    """Read the .po file at `path`, and over it the one at `override` if there is such a file.

    Raises:
        OverrideError: a file is no catalogue, or a translation has other placeholders than its source.
    """
    catalogue = _read(path)
    if override is None or not override.is_file():
        return catalogue
    return Catalogue({**catalogue.texts, **_read(override).texts}, catalogue.plural_form)


def _read(path: Path) -> Catalogue:
    try:
        with path.open("rb") as file:
            catalogue = read_po(file, abort_invalid=True)
    except (PoFileError, ValueError) as error:
        raise OverrideError(f"{path} is not a gettext catalogue: {error}; correct or remove it") from error
    return Catalogue(dict(_translations(path, catalogue)), c2py(catalogue.plural_expr))


def _translations(path: Path, catalogue: Catalog) -> Iterator[tuple[str, tuple[str, ...]]]:
    for message in catalogue:
        ids, forms = _tuple(message.id), _tuple(message.string)
        if ids[0] and all(forms) and not message.fuzzy:
            _check_placeholders(path, ids, forms)
            yield ids[0], forms


def _tuple(text: str | Iterable[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def _check_placeholders(path: Path, ids: tuple[str, ...], forms: tuple[str, ...]) -> None:
    variables = dict.fromkeys(_PLACEHOLDER.findall(" ".join(ids)), 1)
    for form in forms:
        try:
            form % variables
        except (KeyError, TypeError, ValueError) as error:
            raise OverrideError(f"{path}: {form!r} does not fit the placeholders of {ids[0]!r}") from error

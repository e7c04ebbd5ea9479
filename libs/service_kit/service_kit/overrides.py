"""Templates and gettext catalogues, read at start: the shipped ones, and an operator's own in data_dir before them.

Needs the extra `service-kit[overrides]`. English is the text in the templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from gettext import c2py
from pathlib import Path
from typing import TypeVar

from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError, read_po
from jinja2 import Environment, Template, TemplateSyntaxError

from service_kit.errors import OverrideError

_PLACEHOLDER = re.compile(r"%\((\w+)\)")

Tag = TypeVar("Tag", bound=str)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language: by English text, one form or as many as the language has plural forms."""

    texts: Mapping[str, tuple[str, ...]]
    plural_form: Callable[[int], int]  # which of those forms goes with a number

    def gettext(self, message: str) -> str:
        """`message` in this language, its placeholders still in it."""
        return self.texts.get(message, (message,))[0]

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        """The text for `number` things, its placeholders still in it."""
        forms = self.texts.get(singular)
        return forms[self.plural_form(number)] if forms else (singular if number == 1 else plural)


_ENGLISH = Catalogue({}, c2py("n != 1"))


def read_catalogues(shipped: Path, tags: Iterable[Tag], data_dir: Path | None) -> dict[Tag, Catalogue]:
    """Read the catalogue of each language: `shipped`/<tag>/LC_MESSAGES/messages.po, and over it data_dir/lang/<tag>.po.

    Files are named as gettext has it, such as fr_CA; English needs none.

    Raises:
        OverrideError: a file is no catalogue, or a translation has other placeholders than its source.
    """
    return {tag: _read_over(shipped, tag.replace("-", "_"), data_dir) for tag in tags}


def compile_template(environment: Environment, name: str) -> Template:
    """Compile a template.

    Raises:
        OverrideError: an operator's own can't be compiled.
    """
    try:
        return environment.get_template(name)
    except TemplateSyntaxError as error:
        raise OverrideError(f"{error.filename}, line {error.lineno}: {error.message}; correct or remove it") from error
    except UnicodeDecodeError as error:
        raise OverrideError(f"the template {name} is not UTF-8; save it anew or remove it") from error


def _read_over(shipped: Path, name: str, data_dir: Path | None) -> Catalogue:
    own = None if data_dir is None else data_dir / "lang" / f"{name}.po"
    catalogue = _ENGLISH if name == "en" else _read(shipped / name / "LC_MESSAGES" / "messages.po")
    if own is None or not own.is_file():
        return catalogue
    return Catalogue({**catalogue.texts, **_read(own).texts}, catalogue.plural_form)


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

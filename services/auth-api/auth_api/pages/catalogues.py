"""Translations: gettext catalogues, read from their source at start. English is the text in the templates."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from gettext import c2py
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import PoFileError, read_po
from markupsafe import Markup

from auth_api.pages.errors import OverrideError

_PLACEHOLDER = re.compile(r"%\((\w+)\)")

Texts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language, called by templates. A text is markup; what is filled into it gets escaped.

    Attributes:
        texts: The translation by its English text: one form, or as many as the language has plural forms.
        plural_form: Which of those forms goes with a number.
    """

    texts: Texts
    plural_form: Callable[[int], int]

    def gettext(self, message: str, /, **variables: object) -> Markup:
        """`message` in this language, with its variables filled in."""
        return _fill(self.texts.get(message, (message,))[0], variables)

    def ngettext(self, singular: str, plural: str, number: int, /, **variables: object) -> Markup:
        """The text for `number` things, with its variables filled in; `num` is the number."""
        forms = self.texts.get(singular)
        text = forms[self.plural_form(number)] if forms else (singular if number == 1 else plural)
        return _fill(text, {"num": number, **variables})


def _fill(text: str, variables: Mapping[str, object]) -> Markup:
    return Markup(text) % variables  # noqa: S704 - the text is ours or the operator's; Markup escapes the variables


ENGLISH = Catalogue({}, c2py("n != 1"))


def read_catalogue(path: Path, *, overrides: Path | None = None) -> Catalogue:
    """Read the .po file at `path`, and over it the one at `overrides` if there is such a file.

    Raises OverrideError when a file is not a catalogue or a translation has other placeholders than its source.
    """
    catalogue = _read(path)
    if overrides is None or not overrides.is_file():
        return catalogue
    return Catalogue({**catalogue.texts, **_read(overrides).texts}, catalogue.plural_form)


def _read(path: Path) -> Catalogue:
    try:
        with path.open("rb") as file:
            catalogue = read_po(file, abort_invalid=True)
    except (PoFileError, ValueError) as error:
        raise OverrideError(f"{path} is not a gettext catalogue: {error}; correct or remove it") from error
    texts = dict(_translations(path, catalogue))
    return Catalogue(texts, c2py(catalogue.plural_expr))


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

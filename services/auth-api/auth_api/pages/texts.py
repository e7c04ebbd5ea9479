"""The texts of one language as templates call them: a text is markup, and what is filled into it gets escaped."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from service_kit.overrides import Catalogue


@dataclass(frozen=True, slots=True)
class Texts:
    """The two functions of jinja2.ext.i18n, in its new style."""

    catalogue: Catalogue

    def gettext(self, message: str, /, **variables: object) -> Markup:
        """`message` in this language, with its variables filled in."""
        return _fill(self.catalogue.gettext(message), variables)

    def ngettext(self, singular: str, plural: str, number: int, /, **variables: object) -> Markup:
        """The text for `number` things, with its variables filled in; `num` is the number."""
        return _fill(self.catalogue.ngettext(singular, plural, number), {"num": number, **variables})


def _fill(text: str, variables: Mapping[str, object]) -> Markup:
    return Markup(text) % variables  # noqa: S704 - the text is ours or the operator's; Markup escapes the variables

"""The list of every setting that any service knows, read off the groups; nothing is declared here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import SecretStr

from service_kit.settings.bounces import SuppressionSettings, WebhookSettings
from service_kit.settings.groups import (
    AUTH_API,
    KEY_ROTATOR,
    MAILER,
    CommonSettings,
    HttpSettings,
    KeyMakingSettings,
    KeySettings,
    LoginSettings,
    QueueSettings,
    StoreSettings,
)
from service_kit.settings.mail import MailSettings
from service_kit.settings.types import Advice, Items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

    from service_kit.settings.groups import SettingsGroup

GROUPS: tuple[type[SettingsGroup], ...] = (
    HttpSettings,
    LoginSettings,
    KeySettings,
    KeyMakingSettings,
    MailSettings,
    SuppressionSettings,
    WebhookSettings,
    QueueSettings,
    CommonSettings,
    StoreSettings,
)

# So that all three can run on one machine without a word of configuration.
INTERNAL_PORTS: Mapping[str, int] = MappingProxyType({AUTH_API: 3391, MAILER: 3392, KEY_ROTATOR: 3393})


class Form(Enum):
    """How the text of an environment variable or a file becomes a value."""

    TEXT = "text"
    NUMBER = "whole number"
    SWITCH = "true or false"
    LIST = "list"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as every source, message and document needs to know it."""

    name: str
    form: Form
    required: bool
    default: object
    help: str
    secret: bool
    readers: tuple[str, ...]
    advice: str
    items: Items

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"BROKER_{self.name.upper()}"


@cache
def catalogue() -> Mapping[str, Setting]:
    """Every setting by name, in the order of the groups."""
    settings = {
        name: _setting(name, field, group.readers) for group in GROUPS for name, field in group.model_fields.items()
    }
    return MappingProxyType(settings)


def _setting(name: str, field: FieldInfo, readers: tuple[str, ...]) -> Setting:
    parts = [*field.metadata, *_parts(field.annotation)]
    return Setting(
        name=name,
        form=_form(parts),
        required=field.is_required(),
        default=None if field.is_required() else field.default,
        help=field.description or "",
        secret=any(isinstance(part, type) and issubclass(part, SecretStr) for part in parts),
        readers=readers,
        advice=next((part.text for part in parts if isinstance(part, Advice)), ""),
        items=next((part for part in parts if isinstance(part, Items)), Items()),
    )


def _parts(annotation: Any) -> Iterator[Any]:
    """The types and markers that an annotation is made of, outermost first."""
    yield get_origin(annotation) or annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _form(parts: list[Any]) -> Form:
    if any(isinstance(part, int) for part in parts):  # a choice of numbers
        return Form.NUMBER
    forms = {dict: Form.TABLE, tuple: Form.LIST, bool: Form.SWITCH, int: Form.NUMBER}
    return next((form for kind, form in forms.items() if kind in parts), Form.TEXT)

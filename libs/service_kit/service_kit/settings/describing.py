"""What `--check` prints: the effective settings, where each came from, and no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, SecretStr

from service_kit.settings.catalogue import catalogue
from service_kit.settings.types import SecretUrl

if TYPE_CHECKING:
    from service_kit.settings.groups import SettingsGroup
    from service_kit.settings.loading import Loaded

WIDEST_VALUE = 60


def describe(loaded: Loaded[SettingsGroup]) -> str:
    """A table of name, value and source in the catalogue's order, then the warnings."""
    values = dict(loaded.settings)
    rows = [(name, show(values[name]), loaded.sources[name]) for name in catalogue() if name in values]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = max(min(len(value), WIDEST_VALUE) for _, value, _ in rows)
    lines = [f"{name:{name_width}}  {value:{value_width}}  {source}" for name, value, source in rows]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in loaded.warnings)])


def show(value: object) -> str:
    """A value as one would write it in the file, secrets masked."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, BaseModel | dict):
        return f"{{{', '.join(f'{name} = {show(item)}' for name, item in dict(value).items())}}}"
    if isinstance(value, SecretStr) and not isinstance(value, SecretUrl):
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value is None else str(value)

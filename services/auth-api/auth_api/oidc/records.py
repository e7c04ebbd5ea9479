"""How this package writes its records for the store: compact JSON with a version, and nothing else accepted back."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from auth_api.errors import AuthApiError, CorruptRecordError

_VERSION = 1

Record = TypeVar("Record")
Choice = TypeVar("Choice")


def write_record(fields: Mapping[str, object]) -> str:
    """Write fields as JSON; those that are None are left out."""
    record = {"v": _VERSION, **{name: value for name, value in fields.items() if value is not None}}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def read_record(text: str | bytes, build: Callable[[Mapping[str, Any]], Record]) -> Record:
    """Read what `write_record` wrote and build the record from its fields.

    Raises:
        CorruptRecordError: it is no JSON object of this version, or `build` cannot use its fields.
    """
    try:
        fields = json.loads(text)
        if fields["v"] != _VERSION:
            raise CorruptRecordError(f"the record has version {fields['v']!r}, this program reads {_VERSION}")
        return build(fields)
    except (AuthApiError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CorruptRecordError(f"a stored record cannot be read: {error}") from error


def text_or_none(fields: Mapping[str, Any], name: str) -> str | None:
    """An optional field that must be text where it is there."""
    return text(fields, name) if name in fields else None


def text(fields: Mapping[str, Any], name: str) -> str:
    """A field that must be there and be text."""
    value = fields[name]
    if not isinstance(value, str):
        raise CorruptRecordError(f"the field {name} is no text")
    return value


def texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A field that must be a list of texts where it is there."""
    values = fields.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise CorruptRecordError(f"the field {name} is no list of texts")
    return tuple(values)


def one_of(choices: Iterable[Choice], fields: Mapping[str, Any], name: str) -> Choice:
    """A field that must be one of the choices."""
    for choice in choices:
        if fields[name] == choice:
            return choice
    raise CorruptRecordError(f"the field {name} has a value that this program does not know")


def number(fields: Mapping[str, Any], name: str) -> int:
    """A field that must be there and be a whole number."""
    value = fields[name]
    if not isinstance(value, int):
        raise CorruptRecordError(f"the field {name} is no number")
    return value

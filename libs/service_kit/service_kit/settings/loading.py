"""Reads all sources in their order and makes one service's settings of them, or one error with all that is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from service_kit.settings.catalogue import INTERNAL_PORTS, catalogue
from service_kit.settings.environment import read_platform, read_variables
from service_kit.settings.given import Findings, Given, Kind
from service_kit.settings.groups import SettingsGroup
from service_kit.settings.toml_file import read_file

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound=SettingsGroup)
S_co = TypeVar("S_co", bound=SettingsGroup, covariant=True)

DEFAULT = "default"

_WORDS = {
    "bool_type": "is neither true nor false",
    "dict_type": "is not a table",
    "greater_than_equal": "is too small",
    "int_type": "is not a whole number",
    "less_than_equal": "is too large",
    "string_type": "is not text",
    "too_short": "is empty",
    "tuple_type": "is not a list",
}


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S_co]):
    """One service's settings, where each came from, and what an operator should hear about them.

    `sources` also names what is set for other services; what no source sets is missing there, unless it is a setting
    of this service, whose source is then "default".
    """

    settings: S_co
    sources: Mapping[str, str]
    warnings: tuple[str, ...]


def load(
    settings_class: type[S],
    *,
    service: str,
    config_path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded[S]:
    """Read defaults, the file, platform variables and BROKER_* in this order; the later one wins.

    Raises:
        ConfigurationError: with every problem there is; it holds no secret.
    """
    environ = os.environ if environ is None else environ
    mine = _own_settings(settings_class)
    findings = Findings()
    given = {"internal_port": Given(INTERNAL_PORTS[service], DEFAULT)} if service in INTERNAL_PORTS else {}
    if config_path is not None:
        given |= read_file(Path(config_path), findings)
    given |= read_platform(environ)
    given |= read_variables(environ, findings)
    values = _resolve({name: given[name] for name in given if name in mine}, findings)
    sources = dict.fromkeys(mine, DEFAULT) | {name: value.source for name, value in given.items()}
    settings = _validate(settings_class, values, sources, findings)
    told = {problem.setting for problem in findings.problems}
    settings.remember_files(
        {name: Path(str(given[name].value)) for name in given if name in mine and given[name].kind is Kind.FILE}
    )
    for name, message in settings.unusable():
        if name not in told:
            findings.problem(name, sources[name], message)
    for name, message in () if told else settings.cautions():  # these are of whole settings
        findings.warn(f"{name} ({sources[name]}) {message}")
    findings.raise_problems()
    return Loaded(settings, sources, tuple(findings.warnings))


def _own_settings(settings_class: type[SettingsGroup]) -> set[str]:
    mine = set(settings_class.model_fields)
    if strangers := mine - set(catalogue()):
        raise TypeError(f"{settings_class.__qualname__} declares {sorted(strangers)}; settings are declared in a group")
    return mine


def _resolve(given: Mapping[str, Given], findings: Findings) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, one in given.items():
        setting = catalogue()[name]
        try:
            value = one.resolve(setting)
        except ValueError as error:
            findings.problem(name, one.source, f"{error}. Write {setting.advice}")
            values[name] = _UNUSABLE
        else:
            if value is not None:
                values[name] = value
    return values


_UNUSABLE: Any = object()


def _validate(settings_class: type[S], values: dict[str, object], sources: Mapping[str, str], findings: Findings) -> S:
    for name, message in settings_class.disagreements(values):
        findings.problem(name, sources.get(name, DEFAULT), message)
    told = {name for name, value in values.items() if value is _UNUSABLE}
    try:
        settings = settings_class.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        with_wrong_entries = {details["loc"][0] for details in errors if len(details["loc"]) > 1}
        for details in errors:
            if not details["loc"] or details["loc"][0] in told:  # those of no place are the disagreements
                continue
            if details["type"] == "too_short" and details["loc"][0] in with_wrong_entries:
                continue  # it is empty only without them
            _add_problem(details, sources, findings)
        return _of_what_is_right(settings_class, values, {details["loc"][0] for details in errors if details["loc"]})
    return settings


def _of_what_is_right(settings_class: type[S], values: Mapping[str, object], wrong: Collection[int | str]) -> S:
    """Make settings without those that are wrong or missing, so that the others are judged in the same round."""
    right: dict[str, Any] = {
        name: _adapter(field).validate_python(values[name])
        for name, field in settings_class.model_fields.items()
        if name in values and name not in wrong
    }
    return cast("S", settings_class.model_construct(**right))


def _adapter(field: FieldInfo) -> TypeAdapter[Any]:
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated)


def _add_problem(details: ErrorDetails, sources: Mapping[str, str], findings: Findings) -> None:
    name, *place = (part for part in details["loc"])
    setting = catalogue()[str(name)]
    if details["type"] == "missing" and not place:
        findings.problem(
            setting.name,
            "not set",
            f"is required. Write {setting.name} in the file, or set {setting.variable}: {setting.advice}",
        )
        return
    where = "".join(f"entry {part + 1} " if isinstance(part, int) else f"{part} " for part in place)
    cause = details.get("ctx", {}).get("error")
    message = str(cause) if cause else _WORDS.get(details["type"], details["msg"].replace("Input should be", "is not"))
    findings.problem(setting.name, sources[setting.name], f"{where}{message}. Write {setting.advice}")

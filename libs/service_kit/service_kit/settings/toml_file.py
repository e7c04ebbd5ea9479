"""The configuration file: today's names, and the tables and names that older brokers had."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from service_kit.settings.catalogue import catalogue
from service_kit.settings.given import Findings, Given, nearest, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

# Table of old, its names, and what each is called now.
OLD_TABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "server": {name: name for name in ("listen_ip", "listen_port", "public_url", "allowed_origins")},
        "headers": {name: name for name in ("static_ttl", "discovery_ttl", "keys_ttl")},
        "crypto": {name: name for name in ("token_ttl", "keyfiles", "keytext")},
        "redis": {"url": "redis_url", "session_ttl": "session_ttl", "cache_ttl": "cache_ttl"},
        "smtp": {
            "from_name": "from_name",
            "from_address": "from_address",
            "server": "smtp_server",
            "username": "smtp_username",
            "password": "smtp_password",
        },
        "limit": {"per_email": "limits"},
        "google": {"client_id": "google_client_id"},
    }
)
OLD_NAMES: Mapping[str, str] = MappingProxyType({"limit_per_email": "limits"})

SQLITE = (
    "this broker keeps its state in Redis, not in SQLite; remove sqlite_db and set redis_url, "
    "or run `portier-broker` with memory_storage = true, or with neither for a store in state_dir"
)


def limits_of_old(value: object) -> object:
    """`limit_per_email = "5/min"` is the list of the one limit `email:5/min`."""
    return [f"email:{value}"] if isinstance(value, str) else value


def read_file(path: Path, findings: Findings) -> dict[str, Given]:
    """What the file says, by today's names; what is wrong in it goes to the findings.

    Raises:
        ConfigurationError: the file itself can't be read.
    """
    source = f"file {path}"
    try:
        document = tomllib.loads(read_text(str(path)))
    except tomllib.TOMLDecodeError as error:
        findings.problem("the file", source, f"is not valid TOML: {error}")
    except ValueError as error:
        findings.problem("the file", source, str(error))
    findings.raise_problems()  # what else would be missing may stand in there
    old: dict[str, Given] = {}
    current: dict[str, Given] = {}
    for name, value in document.items():
        if name in OLD_TABLES:
            old |= _read_old_table(name, value, source, findings)
        elif name in OLD_NAMES:
            findings.warn(f"{name} ({source}) is deprecated: write limits = {limits_of_old('5/min')} in its place")
            old["limits"] = Given(limits_of_old(value), f"{source}, {name}")
        elif name == "sqlite_db":
            findings.problem(name, source, SQLITE)
        elif name in catalogue():
            current[name] = Given(value, source)
        else:
            findings.problem(name, source, f"no service has a setting of this name{nearest(name)}")
    return _together(old, current, findings)


def _read_old_table(table: str, entries: object, source: str, findings: Findings) -> dict[str, Given]:
    names = OLD_TABLES[table]
    if not isinstance(entries, dict):
        findings.problem(table, source, f"is not a setting; it was once a table with {', '.join(names)}")
        return {}
    read = {}
    for name, value in entries.items():
        if name not in names:
            hint = nearest(f"{table}_{name}", ()) or nearest(name, names)
            findings.problem(f"[{table}] {name}", source, f"this table never had such a name{hint}")
            continue
        value_now = limits_of_old(value) if names[name] == "limits" else value
        findings.warn(f"[{table}] {name} ({source}) is deprecated: move it to the top of the file as {names[name]}")
        read[names[name]] = Given(value_now, f"{source}, [{table}]")
    return read


def _together(old: dict[str, Given], current: dict[str, Given], findings: Findings) -> dict[str, Given]:
    """Today's name wins over its old one; key files of both add up, as they always did."""
    for name in old.keys() & current.keys():
        ours, theirs = current[name].value, old[name].value
        if name == "keyfiles" and isinstance(ours, list) and isinstance(theirs, list):
            current[name] = Given([*theirs, *ours], current[name].source)
        else:
            findings.warn(f"{name} is set twice: the one in {old[name].source} is ignored")
    return old | current

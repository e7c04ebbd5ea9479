"""What doctor says about one thing that it looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is; UNKNOWN where the server would not tell."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, why it matters, and the line of configuration that mends it."""

    id: str
    severity: Severity
    found: str
    why: str
    mend: str = ""
    where: str = ""


Judgement = tuple[Severity, str, str]  # with what was found, and what mends it

OK, UNKNOWN, WARNING, ERROR = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.ERROR
CONFIG_HIDDEN = "the server does not tell its settings (CONFIG GET)"


def setting(line: str) -> str:
    """Say how a setting of Redis is changed at once, and for good."""
    return f"CONFIG SET {line}; then on replicas, and in redis.conf: else a restart forgets it"


def acl_lines(wanted: Mapping[str, Iterable[str]]) -> str:
    """Say how users are given what they lack: a line for each, and how to keep it."""
    lines = [f"ACL SETUSER {user} {' '.join(rights)}" for user, rights in wanted.items()]
    return "\n".join((*lines, "then on replicas, and in the aclfile (ACL SAVE): else a restart forgets it"))

"""What doctor says about one thing that it looked at."""

from __future__ import annotations

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

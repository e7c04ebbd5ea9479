"""What may go wrong in here; every message says what happened and what to do about it.

ServiceKitError
├── ConfigurationError   the settings do not make sense; carries every problem found, never a secret
├── InternalPortError    the port of health checks and metrics could not be opened
└── OverrideError        an operator's own template or catalogue can't be used
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ServiceKitError(Exception):
    """Base of everything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration: where it stands and what to write instead."""

    setting: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.setting} ({self.source}): {self.message}"


class ConfigurationError(ServiceKitError):
    """The configuration cannot be used; `problems` holds all that is wrong with it, not just the first."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)  # a name misspelled there may be what is missing here
        count = "one problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            "\n".join(
                [
                    f"the configuration has {count}:",
                    *(f"  {p}" for p in self.problems),
                    *(f"  warning: {w}" for w in self.warnings),
                ]
            )
        )


class InternalPortError(ServiceKitError):
    """The internal port could not be opened."""


class OverrideError(ServiceKitError):
    """A file in data_dir can't be used; the message names it and what to do."""

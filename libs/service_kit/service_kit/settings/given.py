"""A value as a source gave it, and how its text becomes the value it stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from service_kit.errors import ConfigurationError, Problem
from service_kit.settings.catalogue import Form, catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service_kit.settings.catalogue import Setting

MOST_BYTES = 10_000_000

_IN_REDIS_URL = "it is part of redis_url: redis://user:password@host:port/database"
_IN_SMTP_SERVER = 'it is part of smtp_server: write smtp_server = "host:port"'
# Names that other programs have for what is called otherwise here, or is part of something else.
_HINTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("smtp_host", "smtp_port", "mail_host", "mail_port", "mail_server"), _IN_SMTP_SERVER),
        **dict.fromkeys(("smtp_tls", "smtp_ssl", "smtp_starttls", "smtp_encryption"), "write smtp_security"),
        **dict.fromkeys(("redis_host", "redis_port", "redis_user", "redis_username", "redis_db"), _IN_REDIS_URL),
        **dict.fromkeys(("redis_password", "redis_database", "redis_tls"), f"{_IN_REDIS_URL}, rediss:// with TLS"),
        **dict.fromkeys(("issuer", "base_url", "server_url", "url", "hostname", "domain"), "write public_url"),
        **dict.fromkeys(("port", "http_port", "server_port"), "write listen_port"),
        **dict.fromkeys(("host", "bind", "listen", "listen_address"), "write listen_ip and listen_port"),
        **dict.fromkeys(("mail_from", "smtp_from", "email_from", "sender", "from"), "write from_address"),
        **dict.fromkeys(("rate_limit", "rate_limits", "limit_per_ip"), 'write limits = ["ip:50/s", …]'),
        **dict.fromkeys(("log", "rust_log", "verbose", "debug"), "write log_level"),
    }
)


class Kind(Enum):
    """What a source holds: a value of its own, its text, or the name of a file with the text."""

    VALUE = "value"
    TEXT = "text"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Given:
    """What one source says of one setting; a file is read only when a service needs it."""

    value: object = field(repr=False)
    source: str
    kind: Kind = Kind.VALUE

    def resolve(self, setting: Setting) -> object:
        """The value as pydantic takes it.

        Raises:
            ValueError: the text is not of the setting's form, or a file cannot be read.
        """
        value = self.value
        if self.kind is Kind.FILE:
            value = read_text(str(value)).removesuffix("\n").removesuffix("\r")
        if self.kind is not Kind.VALUE:
            value = from_text(setting, str(value))
        elif value == "" and not setting.required:
            value = None
        if setting.items.from_files and isinstance(value, list):
            return [item for entry in value for item in _lines_of(entry)]
        return value


@dataclass(frozen=True, slots=True)
class Findings:
    """What reading the sources brought to light."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, setting: str, source: str, message: str) -> None:
        """Something that keeps the service from starting."""
        self.problems.append(Problem(setting, source, message))

    def warn(self, message: str) -> None:
        """Something the operator should mend, though it works."""
        self.warnings.append(message)

    def raise_problems(self) -> None:
        """Go no further where there is a problem.

        Raises:
            ConfigurationError: with all of them.
        """
        if self.problems:
            raise ConfigurationError(self.problems, self.warnings) from None


def from_text(setting: Setting, text: str) -> object:
    """The value that a variable's text stands for; None for an empty text, which unsets.

    Raises:
        ValueError: the text is not of the setting's form.
    """
    if setting.form is Form.LIST:
        return split_items(text, words=setting.items.words)
    if setting.form is Form.NUMBER:
        # int() refuses the separators 1C to 1F, which \s takes for white space.
        if not re.fullmatch(r"[^\S\x1c-\x1f]*[+-]?[0-9]{1,18}[^\S\x1c-\x1f]*", text):
            raise ValueError("is not a whole number")
        return int(text)
    if setting.form is Form.SWITCH:
        return parse_switch(text)
    return text or None


def split_items(text: str, *, words: bool) -> list[str]:
    """The entries of a list separated by commas and line ends, with `words` by any white space."""
    items = re.split(r"[\s,]+" if words else r"[,\r\n]+", text)
    return [item.strip() for item in items if item.strip()]


def parse_switch(text: str) -> bool:
    """True or false, spelled just so but for upper case."""
    try:
        return {"true": True, "false": False}[text.strip().lower()]
    except KeyError:
        raise ValueError("is neither true nor false") from None


def read_text(path: str) -> str:
    """The text of a small file.

    Raises:
        ValueError: it cannot be read, is too big, or is not text.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read the file {path}: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"the file {path} is larger than {MOST_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None


def _lines_of(entry: object) -> Iterable[object]:
    if not isinstance(entry, str) or not entry.startswith("@"):
        return [entry]
    lines = (line.strip() for line in read_text(entry[1:]).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def nearest(name: str, names: Iterable[str] | None = None) -> str:
    """Say what to write in place of an unknown name: "; did you mean …?" for the one most like it; or nothing."""
    if hint := _HINTS.get(name.removeprefix("BROKER_").lower()):
        return f"; {hint}"
    found = get_close_matches(name, catalogue() if names is None else names, n=1, cutoff=0.7)
    return f"; did you mean {found[0]}?" if found else ""

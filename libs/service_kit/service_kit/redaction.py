"""The net under the logs: masks what looks like an address, a code, a token or a password.

Code must not log such things in the first place; this catches what a library or a traceback brings along.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

MASK = "***"
DEEPEST = 6

SECRET_KEYS = frozenset(
    {"authorization", "code", "cookie", "email", "id_token", "password", "secret", "session", "session_id", "token"}
)

# Every repetition before a required character is bounded, so that no text takes more than linear time.
_URL_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/\"']{1,512}@", re.IGNORECASE)
_QUERY_VALUE = re.compile(
    r"\b(code|session|session_id|id_token|access_token|token|password|client_secret|api_key)(=|%3D)[^\s&\"'#<>]+",
    re.IGNORECASE,
)
# What stands around addresses in texts may stand in them as well (o'brien, a/b, jack&jill): between other characters it
# is taken for theirs, so that rather a word too much is masked than half an address shown. Not so `=`, as in queries.
_ADDRESS = re.compile(
    r"(?:\"[^\"\n]{1,64}\"|[^\s@<>()\[\],;:\"'=/&?\\]{1,64}(?:['/&?]{1,8}[^\s@<>()\[\],;:\"'=/&?\\]{1,64}){0,8})(?:@|%40)(?:\[[0-9a-f.:]{2,45}\]|[\w-]{1,63}(?:\.[\w-]{1,63}){0,10})",
    re.IGNORECASE,
)
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")


def redact_text(text: str) -> str:
    """The text with credentials of URLs, secret query values, tokens and mail addresses masked."""
    if "://" in text:
        text = _URL_CREDENTIALS.sub(rf"\1{MASK}@", text)
    if "=" in text or "%3" in text:
        text = _QUERY_VALUE.sub(rf"\1\2{MASK}", text)
    if "eyJ" in text:
        text = _JWT.sub(MASK, text)
    if "@" in text or "%40" in text:
        text = _ADDRESS.sub(lambda found: found[0] if found[0].startswith(f"{MASK}@") else MASK, text)
    return text


def redact(value: object, depth: int = 0) -> object:
    """A value fit for a log line: texts redacted, containers walked, anything else as redacted text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if depth < DEEPEST and isinstance(value, dict):
        return {str(key): MASK if _is_secret(key, item) else redact(item, depth + 1) for key, item in value.items()}
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    return redact_text(repr(value))


def redact_event(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Structlog processor: redacts every value of a line at info or above."""
    if event.get("level") == "debug":
        return event
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own, gone before the line is written
            event[key] = MASK if _is_secret(key, value) else redact(value)
    return event


def _is_secret(key: object, value: object) -> bool:
    return key in SECRET_KEYS and isinstance(value, str | bytes) and value not in ("", b"")

"""The thread through a login's log lines: a trace id that travels in HTTP headers and mail jobs (W3C Trace Context).

Nothing is exported from here; an OpenTelemetry exporter can take up the same ids.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_LONGEST = 256
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Trace:
    """One step of a trace: 32 hex digits for the whole, 16 for this step."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @classmethod
    def new(cls) -> Trace:
        """A trace that begins here."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    @classmethod
    def from_header(cls, header: str | None) -> Trace:
        """The next step of the trace that a `traceparent` names, or a new trace where it names none.

        Anything malformed counts as absent (W3C Trace Context 4.3); later versions are read as if they were 00.
        """
        found = _HEADER.fullmatch(header) if header and len(header) <= _LONGEST else None
        if not found:
            return cls.new()
        version, trace_id, span_id, flags, rest = found.groups()
        if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
            return cls.new()
        return cls(trace_id, secrets.token_hex(8), bool(int(flags, 16) & _SAMPLED))

    def next_step(self) -> Trace:
        """A step below this one in the same trace."""
        return Trace(self.trace_id, secrets.token_hex(8), self.sampled)

    @property
    def traceparent(self) -> str:
        """What to send on, as header or in a job."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def in_logs(self) -> AbstractContextManager[None]:
        """Lines inside `with trace.in_logs():` carry the trace id as `trace`."""
        return structlog.contextvars.bound_contextvars(trace=self.trace_id)

"""The thread through a login's log lines: a trace id that travels in HTTP headers and mail jobs (W3C Trace Context).

Where OpenTelemetry's variables ask for it, `spans` exports each step under the same ids; else nothing of it is loaded.
"""

from __future__ import annotations

import re
import secrets
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        """The next step of the trace that a `traceparent` names, or a new trace where it names none."""
        known = cls.named_by(header)
        return cls.new() if known is None else known.next_step()

    @classmethod
    def named_by(cls, header: str | None) -> Trace | None:
        """The step that a `traceparent` names.

        Anything malformed counts as absent (W3C Trace Context 4.3); later versions are read as if they were 00.
        """
        found = _HEADER.fullmatch(header) if header and len(header) <= _LONGEST else None
        if not found:
            return None
        version, trace_id, span_id, flags, rest = found.groups()
        if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))

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


Kind = Literal["internal", "server", "consumer"]
Fact = str | int | float | bool


class Step(Protocol):
    """One step of a trace while it goes on."""

    @property
    def trace(self) -> Trace:
        """Its ids, for logs and to send on."""

    def tell(self, *, name: str = "", failed: bool = False, **facts: Fact) -> None:
        """Add facts for who looks at the trace; never an address, a code or a session id."""


class Exporter(Protocol):
    """Exports steps; `spans` has the one."""

    def step(self, name: str, header: str | None, kind: Kind) -> AbstractContextManager[Step]:
        """Begin a step below the one that a `traceparent` names; it is exported when the block ends."""


@dataclass(frozen=True, slots=True)
class _Unseen:
    """A step that nobody looks at."""

    trace: Trace

    def tell(self, *, name: str = "", failed: bool = False, **facts: Fact) -> None:
        """Say it to nobody."""


_exporter: Exporter | None = None
_current: ContextVar[Step | None] = ContextVar("step", default=None)


def export_to(exporter: Exporter | None) -> None:
    """Export the steps of this process from now on; None for not any more."""
    global _exporter  # noqa: PLW0603 - one a process, as logging is
    _exporter = exporter


@contextmanager
def step(name: str, header: str | None, *, kind: Kind = "internal") -> Iterator[Step]:
    """Go one step of the trace that a `traceparent` names, or of a new one; `tell` adds facts to it."""
    begun = _exporter.step(name, header, kind) if _exporter else None
    with begun or _unseen(header) as current:
        token = _current.set(current)
        try:
            yield current
        finally:
            _current.reset(token)


@contextmanager
def _unseen(header: str | None) -> Iterator[Step]:
    yield _Unseen(Trace.from_header(header))


def tell(*, name: str = "", failed: bool = False, **facts: Fact) -> None:
    """Add facts to the step that goes on, if one does: see `Step.tell`."""
    if (current := _current.get()) is not None:
        current.tell(name=name, failed=failed, **facts)

"""Exports the steps of `tracing` as OpenTelemetry spans over OTLP/HTTP, as OpenTelemetry's own variables (OTEL_*) say.

Exporter and tracer are loaded only where an endpoint is named. A thread of its own exports: a collector that is away
or hangs costs spans, never a login and never more than a moment at the end.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from service_kit.tracing import Trace, export_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

    from service_kit.tracing import Fact, Kind, Step

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
LAST_SPANS = 2.0  # seconds at the end in which what is left may still go out
TELL_EVERY = 60.0  # seconds between lines that say that spans can't be exported

log = structlog.stdlib.get_logger()


def wanted() -> bool:
    """Whether the environment asks for spans."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return any(map(os.environ.get, ENDPOINTS)) and not disabled and os.environ.get("OTEL_TRACES_EXPORTER") != "none"


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Export the steps of this process while the block runs, if the environment asks for it."""
    if not wanted():
        yield
        return
    provider = _open_provider(service)
    export_to(_Spans(provider.get_tracer("portier_broker")))
    log.info("spans_exported")
    try:
        yield
    finally:
        export_to(None)
        # The SDK's own way out takes up to half a minute where the collector hangs.
        last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(LAST_SPANS)


def _open_provider(service: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    _speak_rarely(logging.getLogger("opentelemetry"))
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class _Spans:
    """Makes a span of each step."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def step(self, name: str, header: str | None, kind: Kind) -> Iterator[Step]:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        span = self._tracer.start_span(name, _parent(header), SpanKind[kind.upper()])
        try:
            yield _Seen(span)
        except BaseException as error:
            _fail(span, type(error).__name__)  # its text may hold anything
            raise
        finally:
            span.end()


def _parent(header: str | None) -> Context:
    """The span that a `traceparent` names, read as `Trace` reads it."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.context import Context  # noqa: PLC0415

    known = Trace.named_by(header)
    if known is None:
        return Context()
    flags = trace.TraceFlags(int(known.sampled))
    context = trace.SpanContext(int(known.trace_id, 16), int(known.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def _fail(span: Span, reason: str | None = None) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    span.set_status(StatusCode.ERROR, reason)


class _Seen:
    """A step with a span."""

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        sampled = bool(context.trace_flags.sampled)
        self.trace = Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled)

    def tell(self, *, name: str = "", failed: bool = False, **facts: Fact) -> None:
        if name:
            self._span.update_name(name)
        if failed:
            _fail(self._span)
        self._span.set_attributes({key.replace("__", "."): value for key, value in facts.items()})


class _Rarely(logging.Handler):
    """Tells what the SDK complains of in our words, once a minute: a collector that is away is no event each second."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_EVERY
            log.warning("spans_not_exported", reason=record.getMessage())


def _speak_rarely(logger: logging.Logger) -> None:
    logger.handlers = [_Rarely()]
    logger.propagate = False

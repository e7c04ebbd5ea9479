"""Log lines: one pipeline for our own events and those of libraries, JSON for machines or colours for people.

Every line has `service`, `instance` and whatever is bound to the context: `login` (see `short_id`) and `trace`.
Lines go to stderr; stdout belongs to what commands print.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import sys
from typing import TYPE_CHECKING, Literal

import structlog

from service_kit.redaction import redact_event

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

# Their lines at info hold URLs, and URLs hold codes.
TALKATIVE = ("httpx", "httpcore", "uvicorn.access", "mail.log")  # the last is aiosmtpd's


def short_id(session_id: str) -> str:
    """The name of a login in log lines: 10 hex digits of the SHA-256 of its session id, which it does not betray."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:10]


def configure_logging(
    *,
    service: str,
    level: Level = "info",
    format: Format = "auto",  # noqa: A002
    instance: str | None = None,
) -> str:
    """Set up structlog and the standard library's logging for this process, and tell the instance's id.

    Called again, it replaces what it set up before.
    """
    instance = instance or secrets.token_hex(4)
    names = _naming(service, instance)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        names,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        redact_event,
    ]
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(format)],
        )
    )
    _route_everything_to(handler, number)
    return instance


def _naming(service: str, instance: str) -> Processor:
    def add_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"], event["instance"] = service, instance
        return event

    return add_names


def _renderer(format_: Format) -> Processor:
    if format_ == "json" or (format_ == "auto" and not sys.stderr.isatty()):
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _route_everything_to(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    for old in [*root.handlers]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))

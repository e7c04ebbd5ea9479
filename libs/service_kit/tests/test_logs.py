"""What log lines look like, and what never gets into them."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service_kit.logs import configure_logging, short_id
from service_kit.redaction import redact, redact_text
from service_kit.tracing import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    Lines = Callable[[], list[dict[str, Any]]]


pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def configure() -> None:
    """Not in a fixture: pytest gives each phase of a test a stderr of its own."""
    configure_logging(service="auth-api", instance="abcd")


def test_line_has_service_instance_and_trace(lines: Lines) -> None:
    configure()
    trace = Trace.new()
    with trace.in_logs():
        structlog.get_logger().info("code_mailed", attempts=2, login=short_id("the-session-id"))
    structlog.get_logger().info("idle")
    first, second = lines()
    assert first.pop("timestamp")
    assert first == {
        "event": "code_mailed",
        "attempts": 2,
        "level": "info",
        "service": "auth-api",
        "instance": "abcd",
        "login": short_id("the-session-id"),
        "trace": trace.trace_id,
    }
    assert "login" not in second


def test_lines_of_libraries_take_the_same_way(lines: Lines) -> None:
    configure()
    logging.getLogger("redis.connection").warning("mail to %s", "a@b.example")
    (line,) = lines()
    assert (line["event"], line["logger"], line["service"]) == ("mail to ***", "redis.connection", "auth-api")


@pytest.mark.parametrize("name", ["httpx", "httpcore", "uvicorn.access", "httpcore.connection"])
def test_libraries_that_log_urls_are_quiet_below_warning(name: str, lines: Lines) -> None:
    configure()
    logging.getLogger(name).info("GET https://x/?code=1")
    assert lines() == []


def test_debug_is_left_out_at_info(lines: Lines) -> None:
    configure()
    structlog.get_logger().debug("detail")
    assert lines() == []


def test_traceback_is_redacted_and_holds_no_locals(lines: Lines) -> None:
    configure()
    password = "-".join(["hunter2", "local"])
    try:
        raise ValueError(f"cannot open redis://u:{'pw'}@h/0 for joe@b.example")  # noqa: TRY301
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("x").exception("failed too")
    for line in lines():
        assert "redis://***@h/0 for ***" in line["exception"]
        assert password not in line["exception"]


def test_console_lines_are_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(service="mailer", format="console", level="debug")
    structlog.get_logger().info("sent", to="joe@b.example")
    err = capsys.readouterr().err
    assert "joe" not in err
    assert "sent" in err


def test_set_up_twice_writes_each_line_once(lines: Lines) -> None:
    configure()
    configure()
    structlog.get_logger().info("once")
    assert len(lines()) == 1


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("to joe@example.com now", "to *** now"),
        ("<joe+tag@sub.example.com>", "<***>"),
        ("jörg@exämple.de", "***"),
        ('"joe doe"@example.com', "***"),
        ("to o'brien@example.com now", "to *** now"),
        ("to a/b@example.com, jack&jill@example.com", "to ***, ***"),
        ("to x{y}@example.com", "to ***"),
        ("Mail(to='joe@example.com', n=1)", "Mail(to='***', n=1)"),
        ("?a=1&login_hint=o'brien@example.com&x=1", "?a=1&login_hint=***&x=1"),
        ("login_hint=joe%40example.com&x=1", "login_hint=***&x=1"),
        ("GET /confirm?session=abc&code=12ab HTTP", "GET /confirm?session=***&code=*** HTTP"),
        ("id_token=x.y.z", "id_token=***"),
        ("TOKEN=x", "TOKEN=***"),
        ("password=hunter2", "password=***"),
        ("status_code=200 barcode=1", "status_code=200 barcode=1"),
        ("redis://:hunter2@h:6379/0", "redis://***@h:6379/0"),
        ("redis://u:p@w@h", "redis://***@h"),
        ("jwt eyJhbGciOiJub25lIn0.eyJzdWIiOiJqb2UifQ.sig", "jwt ***"),
        ("https://example.com/path", "https://example.com/path"),
        ("nothing here", "nothing here"),
    ],
)
def test_what_looks_secret_is_masked(text: str, redacted: str) -> None:
    assert redact_text(text) == redacted


@given(st.from_regex(r"[a-z0-9.+_-]{1,30}@[a-z0-9-]{1,20}\.[a-z]{2,6}", fullmatch=True), st.text(" .,()<>", max_size=5))
def test_no_address_survives(address: str, around: str) -> None:
    assert address not in redact_text(f"{around} {address} {around}")


def test_containers_and_objects_are_redacted_inside() -> None:
    value = redact({"to": ["joe@b.example"], "code": "123456", "error": ValueError("x@y.example"), "n": 1})
    assert value == {"to": ["***"], "code": "***", "error": "ValueError('***')", "n": 1}


def test_redaction_of_hostile_text_ends() -> None:
    for text in ("a" * 200_000 + "@", "a://" * 50_000 + "@", "@" * 200_000, "code=" * 50_000, "%40" * 50_000):
        redact_text(text)


@given(st.one_of(st.none(), st.text(), st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*")))
def test_any_trace_header_gives_a_valid_trace(header: str | None) -> None:
    trace = Trace.from_header(header)
    again = Trace.from_header(trace.traceparent)
    assert again.trace_id == trace.trace_id
    assert again.span_id != trace.span_id


GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (GOOD, True),
        (GOOD.replace("00-", "01-", 1) + "-more", True),
        (GOOD + "-more", False),
        (GOOD.upper(), False),
        (GOOD.replace("00-", "ff-", 1), False),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", False),
        (GOOD + "\n", False),
        (GOOD.replace("00-", "01-", 1) + "-" + "x" * 300, False),
    ],
)
def test_trace_is_taken_up_only_from_a_valid_header(header: str, taken: bool) -> None:
    assert (Trace.from_header(header).trace_id == "4bf92f3577b34da6a3ce929d0e0e4736") is taken


def test_unsampled_trace_stays_so() -> None:
    assert Trace.from_header(GOOD[:-2] + "00").next_step().traceparent.endswith("-00")

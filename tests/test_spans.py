"""Spans over OTLP/HTTP, by real processes, to a small real collector."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.conftest import MakeStack
from tests.person import Person
from tests.stack import Stack, free_port, until

SECRET_WORDS = {"state": "the-very-state", "nonce": "the-very-nonce"}


class Collector:
    """Keeps what it is sent: the octets, and the spans by service."""

    def __init__(self) -> None:
        self.octets = b""
        self.spans: list[tuple[str, Span]] = []

    def take(self, body: bytes) -> None:
        self.octets += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            [service] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]

    def find(self, service: str, name: str) -> Span | None:
        return next((span for by, span in list(self.spans) if (by, span.name) == (service, name)), None)


@contextmanager
def collecting(collector: Collector, held: threading.Event | None = None) -> Iterator[str]:
    """Run a collector; while `held` is not set it takes connections and answers nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if held is not None:
                held.wait(60)
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        if held is not None:
            held.set()
        server.shutdown()
        server.server_close()


def _request(broker: str, address: str) -> str:
    return f"{broker}/auth?" + urlencode(
        {
            "client_id": "https://site.example",
            "redirect_uri": "https://site.example/callback",
            "response_type": "id_token",
            "response_mode": "fragment",
            "scope": "openid email",
            "login_hint": address,
            **SECRET_WORDS,
        }
    )


def _log_in(stack: Stack, address: str) -> None:
    person = Person(stack, address)
    answer = person.log_in(_request(stack.broker, address))
    person.close()
    assert "id_token" in answer.fields


def _facts(span: Span) -> dict[str, str]:
    return {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}


def test_one_login_is_one_trace_over_services_and_holds_nothing_personal(
    make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    with collecting(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with make_stack(domain_overrides='{"spans.example": []}') as stack:
            _log_in(stack, "a.person@spans.example")
            mail = stack.mailbox.wait_for("a.person@spans.example")
            asked = until(lambda: collector.find("auth-api", "GET /auth"))
            sent = until(lambda: collector.find("mailer", "mail job"))
            confirmed = until(lambda: collector.find("auth-api", "POST /confirm"))
            until(lambda: collector.find("key-rotator", "look after keys"))
    assert sent.trace_id == asked.trace_id
    assert sent.parent_span_id == asked.span_id
    assert _facts(sent)["login"] == _facts(asked)["login"] == _facts(confirmed)["login"]
    assert _facts(sent)["outcome"] == "delivered"
    assert _facts(sent)["attempt"] == "1"
    assert _facts(asked)["http.route"] == "/auth"
    assert _facts(asked)["http.response.status_code"] == "200"
    code = mail.code.replace(" ", "")
    for secret in ("a.person", "spans.example", mail.code, code, mail.session, *SECRET_WORDS.values()):
        assert secret.encode() not in collector.octets


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "away"])
def test_logins_go_on_and_stop_is_prompt_while_the_collector_fails(
    make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    with collecting(Collector(), threading.Event()) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url if hangs else f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        with make_stack(domain_overrides='{"spans.example": []}') as stack:
            for number in range(3):
                _log_in(stack, f"person{number}@spans.example")
            until(lambda: "spans_not_exported" in stack.log.read_text())
        assert "stop_overdue" not in stack.log.read_text()


def test_no_exporter_is_loaded_where_no_endpoint_is_named() -> None:
    look = """
import sys, mailer.__main__, auth_api.__main__, key_rotator.__main__
from service_kit.spans import exporting
with exporting("mailer"):
    print([name for name in sys.modules if name.startswith(("opentelemetry.exporter", "google"))])
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = subprocess.run([sys.executable, "-c", look], env=environ, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"

"""What auth-api counts: under the names that dashboards of the Rust broker read (no `_total`), and its own."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from auth_api.addresses import EmailAddress

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DomainProblem = Literal["invalid_name", "blocked", "null_mx", "no_servers", "no_public_ips"]
DOMAIN_PROBLEMS: tuple[DomainProblem, ...] = ("invalid_name", "blocked", "null_mx", "no_servers", "no_public_ips")
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class OldCounter(Collector):
    """A counter whose name is written as it is: prometheus-client would add `_total` to it."""

    def __init__(self, name: str, text: str, label: str = "", values: Collection[str] = ("",)) -> None:
        self._name, self._text, self._label = name, text, label
        self._counts = dict.fromkeys(values, 0)

    def inc(self, value: str = "") -> None:
        """Count one."""
        self._counts[value] += 1

    def collect(self) -> Iterator[Metric]:
        """Tell it to a registry; of no type, since a counter would be renamed."""
        family = Metric(self._name, self._text, "unknown")
        for value, count in self._counts.items():
            family.add_sample(self._name, {self._label: value} if self._label else {}, count)
        yield family

    def lines(self) -> Iterator[str]:
        """Write it in Prometheus' text format 0.0.4."""
        yield f"# HELP {self._name} {self._text}"
        yield f"# TYPE {self._name} counter"
        for value, count in self._counts.items():
            labels = f'{{{self._label}="{value}"}}' if self._label else ""
            yield f"{self._name}{labels} {count}"


class Metrics:
    """All that auth-api counts and measures: in the registry for its internal port, and as text for its public one."""

    def __init__(self, registry: CollectorRegistry, *, uncounted: Collection[str]) -> None:
        self._registry = registry
        self._without_counters = CollectorRegistry()
        self._uncounted = frozenset(uncounted)
        self.http_connections = OldCounter("portier_http_connections", "Number of HTTP connections accepted")
        self.http_requests = OldCounter("portier_http_requests", "Number of HTTP requests")
        self.http_status = OldCounter(
            "portier_http_response_status", "Number of HTTP responses by class", "code", STATUS_CLASSES
        )
        self.auth_limited = OldCounter("portier_auth_limited", "Number of requests refused by a rate limit")
        self.auth_requests = OldCounter("portier_auth_requests", "Number of sound requests within the limits")
        self.email_requests = OldCounter("portier_auth_email_requests", "Number of logins begun by mail")
        self.email_completions = OldCounter("portier_auth_email_completed", "Number of logins completed by mail")
        self.email_code_incorrect = OldCounter("portier_auth_email_code_incorrect", "Number of wrong codes")
        self.oidc_requests = OldCounter(
            "portier_auth_oidc_requests", "Number of logins sent to a provider", "rel", ("portier", "google")
        )
        self.oidc_completions = OldCounter("portier_auth_oidc_completed", "Number of logins completed by a provider")
        self.domain_errors = OldCounter(
            "portier_domain_validation_error", "Number of domains refused", "reason", DOMAIN_PROBLEMS
        )
        self._counters = [value for value in vars(self).values() if isinstance(value, OldCounter)]
        for counter in self._counters:
            registry.register(counter)
        self.webfinger = self._histogram("portier_auth_webfinger_duration", "WebFinger requests, seconds")
        self.email_send = self._histogram("portier_auth_email_send_duration", "Waiting for a mail, seconds")
        self.fetch_config = self._histogram("portier_auth_oidc_fetch_config_duration", "Provider documents, seconds")
        self.fetch_jwks = self._histogram("portier_auth_oidc_fetch_jwks_duration", "Provider keys, seconds")
        self.store_up = Gauge("portier_store_up", "Whether Redis answers (1) or not (0)", registry=registry)
        self._without_counters.register(self.store_up)
        self._store_errors = Counter(
            "portier_store_errors", "Requests told 503 for something about Redis", ["reason"], registry=registry
        )
        self._without_counters.register(self._store_errors)
        self._mail_events = Counter(
            "portier_mail_events", "What mail providers reported", ["provider", "event"], registry=registry
        )
        self._without_counters.register(self._mail_events)

    def _histogram(self, name: str, text: str) -> Histogram:
        histogram = Histogram(name, text, buckets=BUCKETS, registry=self._registry)
        self._without_counters.register(histogram)
        return histogram

    def mail_event(self, provider: str, event: str, number: int = 1) -> None:
        """Count what a provider's webhook reported, or that its call was refused or came again."""
        self._mail_events.labels(provider, event).inc(number)

    def store_error(self, reason: str) -> None:
        """Count a request that was told 503 for what a StoreError calls its reason."""
        self._store_errors.labels(reason).inc()

    def counts(self, address: EmailAddress | None) -> bool:
        """Tell whether successes of this address are counted: operators leave out their monitoring."""
        return str(address) not in self._uncounted

    def auth_requested(self, address: EmailAddress | None) -> None:
        """Count an authorization request that is sound and within the limits."""
        if self.counts(address):
            self.auth_requests.inc()

    def email_requested(self, address: EmailAddress | None) -> None:
        """Count a login begun by mail."""
        if self.counts(address):
            self.email_requests.inc()

    def email_completed(self, address: EmailAddress | None) -> None:
        """Count a login completed by mail."""
        if self.counts(address):
            self.email_completions.inc()

    def provider_requested(self, address: EmailAddress | None, rel: str) -> None:
        """Count a login sent to an identity provider."""
        if self.counts(address):
            self.oidc_requests.inc(rel)

    def provider_completed(self, address: EmailAddress | None) -> None:
        """Count a login completed by an identity provider."""
        if self.counts(address):
            self.oidc_completions.inc()

    @contextmanager
    def measure(self, histogram: Histogram, address: EmailAddress | None) -> Iterator[None]:
        """Measure how long a login waits for something that succeeds."""
        began = time.monotonic()
        yield
        if self.counts(address):
            histogram.observe(time.monotonic() - began)

    def text(self) -> str:
        """Write everything in Prometheus' text format 0.0.4."""
        counters = "\n".join(line for counter in self._counters for line in counter.lines())
        return f"{counters}\n{generate_latest(self._without_counters).decode()}"

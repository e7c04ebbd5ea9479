"""What the mailer measures, under names of its own and the one that dashboards of the Rust broker read."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mailer.outcomes import Attempt
from shared_store.mail_queue import Depth

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All of the mailer's metrics, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._attempts = Counter(
            "mail_attempts", "Attempts to send, by transport and what they came to", ("transport", "verdict"),
            registry=registry,
        )  # fmt: skip
        self._send_seconds = Histogram(
            "portier_auth_email_send_duration", "Seconds that a transport took", buckets=BUCKETS, registry=registry
        )
        self._request_seconds = Histogram(
            "mail_request_to_accepted_seconds", "Seconds from the request to the server's acceptance",
            buckets=(*BUCKETS, 30, 60, 300), registry=registry,
        )  # fmt: skip
        self._finished = Counter("mail_jobs_finished", "Jobs done with, by outcome", ("outcome",), registry=registry)
        self._in_hand = Gauge("mail_jobs_in_hand", "Jobs that this worker has in hand", registry=registry)
        self._waiting = Gauge("mail_jobs_waiting", "Jobs that wait in the queue", ("state",), registry=registry)
        self._taken_over = Counter("mail_jobs_taken_over", "Jobs taken over from dead workers", registry=registry)

    def attempted(self, transport: str, attempt: Attempt, *, seconds: float) -> None:
        """Count an attempt."""
        self._attempts.labels(transport, attempt.verdict.value).inc()
        self._send_seconds.observe(seconds)

    def finished(self, outcome: str, *, since_request: float | None = None) -> None:
        """Count a job that is done with; `since_request` in seconds where its mail was accepted."""
        self._finished.labels(outcome).inc()
        if since_request is not None:
            self._request_seconds.observe(max(since_request, 0.0))

    def in_hand(self, count: int) -> None:
        """Tell how many jobs this worker has in hand."""
        self._in_hand.set(count)

    def depth(self, depth: Depth) -> None:
        """Tell how much waits."""
        self._waiting.labels("ready").set(depth.ready)
        self._waiting.labels("delayed").set(depth.delayed)
        self._waiting.labels("taken").set(sum(depth.taken.values()))
        self._waiting.labels("dead").set(depth.dead)

    def taken_over(self, count: int) -> None:
        """Count jobs taken over from a dead worker."""
        self._taken_over.inc(count)

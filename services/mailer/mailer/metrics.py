"""What Prometheus is told of the mails; the Rust broker's name for it, `…_email_send_duration`, is auth-api's."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mailer.circuit import State
from mailer.verdicts import Verdict

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_BUCKETS = (*BUCKETS, 30, 60, 120, 300, 600)

REASONS = ("expired", "rejected", "poison", "malformed")  # for which jobs are given up
_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class Metrics:
    """The mailer's metrics; `uncounted` are addresses left out of the durations."""

    def __init__(self, registry: CollectorRegistry, *, uncounted: Collection[str] = ()) -> None:
        self._uncounted = frozenset(address.lower() for address in uncounted)
        self._attempts = Counter(
            "mailer_attempts", "Attempts to send, by transport and what came of them", ["transport", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._tries = Counter(
            "mailer_transport_tries", "Tries by transport, what came of them and whose fault it was",
            ["transport", "outcome", "fault"], registry=registry,
        )  # fmt: skip
        self._trying = Histogram(
            "mailer_transport_seconds", "Seconds that a try took", ["transport"], buckets=LONG_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self._circuits = Gauge(
            "mailer_circuit", "0 while a transport is used, 1 while single mails try it, 2 while it is left alone",
            ["transport"], registry=registry,
        )  # fmt: skip
        self._buried = Counter("mailer_given_up", "Jobs given up, by reason", ["reason"], registry=registry)
        for reason in REASONS:  # from the start at 0: else the first would not count as an increase
            self._buried.labels(reason)
        self.retries = Counter("mailer_retries", "Jobs put off for another attempt", registry=registry)
        self.leases_lost = Counter("mailer_leases_lost", "Leases that ended while we worked", registry=registry)
        self.reaped = Counter("mailer_reaped", "Jobs taken over from mailers that died", registry=registry)
        self._waiting = Histogram(
            "mailer_request_to_accepted_seconds", "Seconds from a person's request to the server's acceptance",
            buckets=LONG_BUCKETS, registry=registry,
        )  # fmt: skip
        self.in_hand = Gauge("mailer_in_hand", "Jobs this mailer is working on", registry=registry)
        self.queue_ready = Gauge("mailer_queue_ready", "Jobs waiting to be taken", registry=registry)
        self.queue_delayed = Gauge("mailer_queue_delayed", "Jobs waiting for their next attempt", registry=registry)
        self.queue_taken = Gauge("mailer_queue_taken", "Jobs in the hands of all mailers", registry=registry)
        self.queue_dead = Gauge("mailer_queue_dead", "Jobs given up and not yet purged", registry=registry)
        self.oldest = Gauge("mailer_queue_oldest_seconds", "Age of the ready job to be taken next", registry=registry)
        self.queues_adopted = Gauge(
            "mailer_queues_adopted", "Queues beyond mail_queue_shards that are served since mail was in them",
            registry=registry,
        )  # fmt: skip
        self.store_up = Gauge("mailer_store_up", "1 while Redis answers", registry=registry)

    def attempt(self, verdict: Verdict, *, to: str, waited: float | None) -> None:
        """Count an attempt; `waited` seconds for it, where the time of the request is known."""
        self._attempts.labels(verdict.transport, verdict.kind.value).inc()
        if verdict.kind.value == "delivered" and waited is not None and to.lower() not in self._uncounted:
            self._waiting.observe(max(0.0, waited))

    def tried(self, verdict: Verdict, *, took: float) -> None:
        """Count one transport's part of an attempt."""
        self._tries.labels(verdict.transport, verdict.kind.value, verdict.fault.value).inc()
        self._trying.labels(verdict.transport).observe(took)

    def circuit(self, transport: str, state: State) -> None:
        """Show a transport's circuit."""
        self._circuits.labels(transport).set(_STATES[state])

    def given_up(self, reason: str) -> None:
        """Count a job given up for one of REASONS."""
        self._buried.labels(reason).inc()

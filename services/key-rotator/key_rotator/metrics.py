"""What key-rotator counts, for its internal port."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from key_rotator.policy import Policy, Step, rotation_due
from shared_store.key_sets import KeySet
from shared_store.signing_keys import SigningAlg


class Metrics:
    """Changes, failures, and how old the signing key is, by algorithm."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._age = Gauge(
            "key_rotator_current_key_age_seconds", "Since when the current key signs", ["alg"], registry=registry
        )
        self._due = Gauge(
            "key_rotator_next_rotation_timestamp_seconds", "When the next key is to sign", ["alg"], registry=registry
        )
        self._published = Gauge("key_rotator_published_keys", "Keys in keys.json", ["alg"], registry=registry)
        self._ready = Gauge("key_rotator_keys_ready", "1 while the keys are looked after", ["alg"], registry=registry)
        self._changes = Counter("key_rotator_changes", "Key sets written", ["alg", "change"], registry=registry)
        self._conflicts = Counter(
            "key_rotator_conflicts", "Writes refused since another wrote first", ["alg"], registry=registry
        )
        self._errors = Counter(
            "key_rotator_errors", "Times the keys could not be looked after", ["alg"], registry=registry
        )

    def expect(self, alg: SigningAlg) -> None:
        """Show an algorithm's counters from the start, at 0."""
        self._ready.labels(alg).set(0)
        self._changes.labels(alg, Step.ROTATE)
        self._conflicts.labels(alg)
        self._errors.labels(alg)

    def show(self, key_set: KeySet, policy: Policy, *, clock_offset: float) -> None:
        """Show a key set; `clock_offset` is how far Redis' clock is ahead of this machine's, in seconds."""
        since = key_set.current.signs_from - clock_offset
        self._age.labels(key_set.alg).set_function(lambda: max(time.time() - since, 0.0))
        self._due.labels(key_set.alg).set(rotation_due(key_set, policy))
        self._published.labels(key_set.alg).set(sum(1 for _ in key_set.published()))
        self._ready.labels(key_set.alg).set(1)

    def changed(self, alg: SigningAlg, change: Step) -> None:
        """Count a change that was written."""
        self._changes.labels(alg, change).inc()

    def conflict(self, alg: SigningAlg) -> None:
        """Count a change that was refused."""
        self._conflicts.labels(alg).inc()

    def failed(self, alg: SigningAlg) -> None:
        """Count a failure."""
        self._ready.labels(alg).set(0)
        self._errors.labels(alg).inc()

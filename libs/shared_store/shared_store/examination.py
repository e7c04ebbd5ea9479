"""What doctor thinks of the store, kept for a service's /readyz: looked at now and then, never while somebody waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from shared_store.doctor import examine
from shared_store.findings import Finding, Severity
from shared_store.store import Store

EVERY = 300.0  # seconds between examinations
EVERY_WHILE_OUT = 15.0  # seconds between them while the server can't be reached, or does not let us in
_OUT = {"reachable", "authentication", "permissions"}

log = logging.getLogger(__name__)


class Examination:
    """The last examination for one service, within what its own Redis user may see; `run` must run."""

    def __init__(self, store: Store, service: str) -> None:
        self._store = store
        self._service = service
        self._summary: Mapping[str, object] = {"examined_at": None}

    async def run(self) -> None:
        """Examine the store again and again, until cancelled."""
        while True:
            try:
                findings = await examine(self._store, [self._service], is_careful=True)
            except Exception:  # whatever a server's strange answer does to the checks, the service goes on without them
                log.exception("examination_failed_unexpectedly")
                await asyncio.sleep(EVERY)
                continue
            self._summary = summary(findings, at=time.time())
            errors = {finding.id for finding in findings if finding.severity is Severity.ERROR}
            await asyncio.sleep(EVERY if errors.isdisjoint(_OUT) else EVERY_WHILE_OUT)

    def summary(self) -> Mapping[str, object]:
        """Give when it was (Unix time; None for not yet) and what was found, as `summary` has it."""
        return self._summary


def summary(findings: Sequence[Finding], *, at: float) -> Mapping[str, object]:
    """The ids of what is not as it should be, by severity; what was found in words stays with the doctor command."""
    wanting = (Severity.ERROR, Severity.WARNING, Severity.UNKNOWN)
    named = {
        severity.value: sorted({finding.id for finding in findings if finding.severity is severity})
        for severity in wanting
    }
    return {"examined_at": round(at), **named}

"""Dead letters: what is kept of mail jobs that were given up, for operators; nothing personal is among it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from shared_store.mail_jobs import MailJob


@dataclass(frozen=True, slots=True)
class DeadJob:
    """What is kept of a job that was given up: no address, no code, no link."""

    id: str
    reason: str
    time: float
    site: str = ""
    domain: str = ""
    login: str = ""
    attempts: int = 0
    history: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: MailJob, reason: str, time: float) -> DeadJob:
        """Redact a job for the dead letters."""
        return cls(
            id=job.id,
            reason=reason,
            time=time,
            site=job.site,
            domain=job.to.rpartition("@")[2],
            login=job.login,
            attempts=job.attempts,
            history=job.history,
        )

    def to_json(self) -> str:
        """Write it as it lies in Redis."""
        names = self.__slots__
        return json.dumps({name: getattr(self, name) for name in names})

    @classmethod
    def from_json(cls, text: bytes) -> DeadJob:
        """Read a dead letter; what can't be read is told as such, not refused."""
        try:
            values = json.loads(text)
            return cls(**{**values, "history": tuple(values["history"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls(id="?", reason="unreadable", time=0.0)

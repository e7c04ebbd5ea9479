"""Dead letters: what is kept of mail jobs that were given up, for operators; nothing personal is among it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from shared_store.mail_jobs import MOST_OF_ID, MailJob, is_time


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
        """Write it as it lies in Redis; of an id that is junk, no more than one of ours has."""
        return json.dumps(asdict(self) | {"id": self.id[:MOST_OF_ID]})

    @classmethod
    def from_json(cls, text: bytes) -> DeadJob:
        """Read a dead letter, also one that a newer mailer wrote; what can't be read is told as such, not refused."""
        try:
            values = json.loads(text)
            known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
            letter = cls(**{**known, "history": tuple(values["history"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            return _UNREADABLE
        texts = (letter.id, letter.reason, letter.site, letter.domain, letter.login, *letter.history)
        sound = all(isinstance(text, str) for text in texts) and type(letter.attempts) is int
        return letter if sound and is_time(letter.time) else _UNREADABLE


_UNREADABLE = DeadJob(id="?", reason="unreadable", time=0.0)

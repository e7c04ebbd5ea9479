"""The mail job: what auth-api hands over to the mailers, as JSON with a version.

It carries facts, not a rendered mail: the mailer owns templates and languages. auth-api and mailers are not updated at
once: a new field that a mailer can do without has a default and keeps the version, and older mailers pass over it. Any
other change is a new version, which older mailers leave. `v`, `id` and `deadline` mean the same in every version.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeGuard

from shared_store.errors import CorruptRecord, StoreError
from shared_store.keyspace import digest

VERSION = 1
HISTORY = 20  # attempts that a job remembers
LATEST = 1e11  # Unix time; the calendar ends long before floats do
MOST_OF_ID = 64  # characters
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MOST_OF_ID}}}")


class NewerJob(StoreError):  # noqa: N818
    """A job written by a newer auth-api than this mailer: it is left for a newer mailer."""


@dataclass(frozen=True, slots=True)
class MailJob:
    """One `login.requested` event.

    `to` is the address to mail; `site` the relying party's origin as people read it; `deadline` Unix time in seconds
    after which the mail must not be sent; `reply_to` the channel that waits for the outcome, or ''; `trace` a W3C
    traceparent; `login` the login's short id for logs.
    """

    id: str
    to: str
    locale: str
    site: str
    link: str
    code: str
    deadline: float
    expires_in: int
    reply_to: str = ""
    trace: str = ""
    login: str = ""
    requested_at: float = 0.0
    attempts: int = 0
    history: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """Write the job as it lies in Redis."""
        return json.dumps({"v": VERSION, "event": "login.requested", **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: bytes) -> MailJob:
        """Read a job.

        Raises:
            NewerJob: its version is newer than this code.
            CorruptRecord: it is not a job.
        """
        try:
            values = json.loads(text)
            version = values.pop("v")
            event = values.pop("event")
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise CorruptRecord("a mail job in Redis can't be read") from error
        if type(version) is not int:
            raise CorruptRecord("a mail job in Redis is of no version")
        if version > VERSION:
            raise NewerJob(f"a mail job has version {version}; this mailer reads up to {VERSION}")
        if version != VERSION or event != "login.requested":
            raise CorruptRecord("a mail job in Redis is of an unknown kind")
        return cls._checked(values)

    @classmethod
    def _checked(cls, values: dict[str, Any]) -> MailJob:
        try:
            known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
            history = known.get("history", [])
            job = cls(**{**known, "history": tuple(history)})
            texts = (
                job.id,
                job.to,
                job.locale,
                job.site,
                job.link,
                job.code,
                job.reply_to,
                job.trace,
                job.login,
            )
            sound = (
                isinstance(history, list)
                and all(isinstance(text, str) for text in (*texts, *job.history))
                and all(is_time(number) for number in (job.deadline, job.requested_at))
                and all(type(number) is int for number in (job.expires_in, job.attempts))
                and _ID.fullmatch(job.id)
            )
            # Half a surrogate pair, which JSON may hold, could not be written back.
            "".join((*texts, *job.history)).encode()
        except (TypeError, KeyError, UnicodeEncodeError) as error:
            raise CorruptRecord("a mail job in Redis lacks fields that this project writes") from error
        if not sound:
            raise CorruptRecord("a mail job in Redis has values of the wrong type")
        return job

    def after_attempt(self, outcome: str) -> MailJob:
        """Give the job with one more attempt on record; `outcome` must hold no personal data."""
        return replace(self, attempts=self.attempts + 1, history=(*self.history, outcome)[-HISTORY:])


def new_job_id(session_id: str = "") -> str:
    """Make a job's id; the mail's Message-ID is made from it, so that a repeat is recognised.

    Ids of one login begin with the same digest of its session id: the queue sends one at a time of these.
    """
    # It never begins with a dash: commands would take it for an option.
    return f"{digest('mail', session_id)}-{secrets.token_urlsafe(9)}" if session_id else secrets.token_hex(16)


def glance(raw: bytes | None) -> dict[str, Any]:
    """Give what lies in Redis for a job as far as it can be read, unchecked and of any version; nothing if it can't."""
    try:
        return dict(json.loads(raw or b"{}"))
    except (ValueError, TypeError, RecursionError):
        return {}


def due_at(score: bytes | float) -> float:
    """Read when a job is due (Unix seconds); junk may be put off for ever, which no calendar knows."""
    return min(max(float(score) / 1000, 0.0), LATEST)


def is_time(value: object) -> TypeGuard[float]:
    """Tell whether a value read from JSON can be a Unix time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST

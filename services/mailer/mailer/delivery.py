"""What a mail server's or provider's answer means: one table, and the way through the transports.

Transports report what happened in the terms of this module; the worker acts on the verdict alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from mailer.mails import Mail


class Kind(StrEnum):
    """What to do with the job."""

    DELIVERED = "delivered"
    TRY_AGAIN = "try_again"
    GIVE_UP = "give_up"


class Fault(StrEnum):
    """Whose fault it is that a mail was not delivered; decides whether another transport may do better."""

    NONE = "none"
    RECIPIENT = "recipient"
    TRANSPORT = "transport"
    UNKNOWN = "unknown"  # the server may have the mail; only the same mail again, later, is safe


class Stage(StrEnum):
    """How far an SMTP conversation came."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one attempt. `reason` is for logs and job histories: it holds no personal data."""

    kind: Kind
    fault: Fault
    reason: str
    transport: str = ""
    retry_after: float = 0.0


class Transport(Protocol):
    """A way to send mail. `send` raises nothing that is to be expected: it judges it."""

    @property
    def name(self) -> str:
        """Its name in settings, logs and metrics."""

    async def send(self, mail: Mail, *, bound: float) -> Verdict:
        """Try once, within `bound` seconds."""

    async def check(self) -> str:
        """Connect and authenticate without sending; tell what was found.

        Raises:
            TransportError: it doesn't work, and what to do.
        """

    async def aclose(self) -> None:
        """Close what is open."""


_OURS = frozenset({Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL})
# At RCPT or later these speak of us, not of the recipient: bad sequence, authentication or encryption wanted.
_OUR_CODES = frozenset({500, 501, 502, 503, 504, 521, 530, 534, 535, 538})
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\b")


def judge_reply(stage: Stage, code: int, text: str = "") -> Verdict:
    """Say what an SMTP reply at a stage means (RFC 5321 section 4.2, RFC 3463).

    A refusal of the sender or of our credentials is the transport's fault, to be mended by the operator; a 5xx for
    the recipient or the content is final.
    """
    enhanced = _ENHANCED.match(text)
    reason = f"{stage} {code}" + (f" {enhanced[0]}" if enhanced else "")
    if stage is Stage.CONTENT and 200 <= code < 300:
        return Verdict(Kind.DELIVERED, Fault.NONE, reason)
    if 500 <= code < 600 and stage not in _OURS and code not in _OUR_CODES:
        return Verdict(Kind.GIVE_UP, Fault.RECIPIENT, reason)
    if 400 <= code < 500 and stage not in _OURS and code != 421:
        return Verdict(Kind.TRY_AGAIN, Fault.RECIPIENT, reason)
    return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, reason)


def judge_loss(stage: Stage, why: str) -> Verdict:
    """Say what it means that the conversation broke off, or was too slow, at a stage."""
    fault = Fault.UNKNOWN if stage is Stage.CONTENT else Fault.TRANSPORT
    return Verdict(Kind.TRY_AGAIN, fault, f"{stage} {why}")


def judge_status(status: int, *, retry_after: float = 0.0) -> Verdict:
    """Say what a provider's HTTP status means."""
    reason = f"http {status}"
    if 200 <= status < 300:
        return Verdict(Kind.DELIVERED, Fault.NONE, reason)
    if status in (408, 425, 429) or not 400 <= status < 500:
        return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, reason, retry_after=retry_after)
    # Only of these does the provider say that the request itself, with its recipient, is what it refuses.
    fault = Fault.RECIPIENT if status in (400, 406, 413, 422) else Fault.TRANSPORT
    return Verdict(Kind.GIVE_UP, fault, reason)


# Nobody's fault: it came to be too late, or another mailer's, on the way.
WITHHELD = Verdict(Kind.TRY_AGAIN, Fault.NONE, "not wanted any more")
SMTPUTF8_MISSING = Verdict(Kind.GIVE_UP, Fault.RECIPIENT, "smtputf8 not offered")


class Delivery:
    """Sends through the first transport that can: the next one is tried when the fault is a transport's."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = tuple(transports)

    async def attempt(self, mail: Mail, *, bound: float, within: float) -> Verdict:
        """Try once, `bound` seconds a transport and `within` seconds in all; the verdict that counts.

        Where no transport could deliver, one that lets us try again outweighs one that gave up.
        """
        ends = time.monotonic() + within
        counts = Verdict(Kind.GIVE_UP, Fault.TRANSPORT, "no transport")
        for transport in self._transports:
            left = min(bound, ends - time.monotonic())
            if left <= 0:
                return replace(counts, kind=Kind.TRY_AGAIN)
            verdict = replace(await transport.send(mail, bound=left), transport=transport.name)
            if verdict.fault is not Fault.TRANSPORT:
                return verdict
            if counts.kind is Kind.GIVE_UP:
                counts = verdict
        return counts

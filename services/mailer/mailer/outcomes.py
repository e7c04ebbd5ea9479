"""What an attempt to send a mail came to, and what a mail server's reply means."""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Verdict(StrEnum):
    """What is to be done with the job now."""

    DELIVERED = "delivered"
    TRY_AGAIN = "try_again"
    GIVE_UP = "give_up"


class Fault(Enum):
    """Whose doing a failure is: that decides whether another transport may help at once."""

    TRANSPORT = "transport"
    RECIPIENT = "recipient"
    UNKNOWN = "unknown"  # the server may have taken the mail: sending it elsewhere would make two of it


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt. `detail` is for logs and dead letters: it holds no address, code or link."""

    verdict: Verdict
    detail: str
    fault: Fault = Fault.TRANSPORT
    retry_after: float = 0.0  # seconds that the provider asks for


def delivered(detail: str) -> Attempt:
    """The next server has taken responsibility for the mail."""
    return Attempt(Verdict.DELIVERED, detail)


def transport_failed(detail: str, *, retry_after: float = 0.0) -> Attempt:
    """The transport can't now; it is nothing about this mail."""
    return Attempt(Verdict.TRY_AGAIN, detail, Fault.TRANSPORT, retry_after)


def recipient_deferred(detail: str) -> Attempt:
    """This recipient can't be mailed now."""
    return Attempt(Verdict.TRY_AGAIN, detail, Fault.RECIPIENT)


def recipient_rejected(detail: str) -> Attempt:
    """This recipient can't be mailed at all."""
    return Attempt(Verdict.GIVE_UP, detail, Fault.RECIPIENT)


def unknown(detail: str) -> Attempt:
    """Nobody knows whether the mail was taken: it is sent again with the same Message-ID."""
    return Attempt(Verdict.TRY_AGAIN, detail, Fault.UNKNOWN)


class Stage(StrEnum):
    """How far an SMTP conversation about one mail got."""

    SESSION = "session"  # connecting, greeting, TLS, AUTH
    SENDER = "MAIL FROM"
    RECIPIENT = "RCPT TO"
    DATA = "DATA"
    CONTENT = "content"  # the mail's text is out; its reply counts


def smtp_reply(stage: Stage, code: int) -> Attempt:
    """Judge a reply of refusal (RFC 5321 section 4.2). Its text is left out: servers repeat addresses in it.

    Before RCPT TO a refusal is about us, so another transport may do better; from there on it is about this mail.
    421 is always about the connection.
    """
    detail = f"smtp {stage} {code}"
    if code == 421 or stage in (Stage.SESSION, Stage.SENDER):
        return transport_failed(detail)
    if 500 <= code < 600:
        return recipient_rejected(detail)
    if 400 <= code < 500:
        return recipient_deferred(detail)
    return transport_failed(f"{detail} (not a reply of SMTP)")


def smtp_lost(stage: Stage, reason: str) -> Attempt:
    """Judge a connection that broke or fell silent."""
    detail = f"smtp {stage}: {reason}"
    return unknown(detail) if stage is Stage.CONTENT else transport_failed(detail)


def http_status(name: str, status: int, *, retry_after: float = 0.0) -> Attempt:
    """Judge a mail API's status: 4xx is about this mail, but for those that are about our account or our pace."""
    detail = f"{name} {status}"
    if 200 <= status < 300:
        return delivered(detail)
    if status in (401, 402, 403, 404, 408, 429) or status >= 500:
        return transport_failed(detail, retry_after=retry_after)
    return recipient_rejected(detail)

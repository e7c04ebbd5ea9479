"""What became of one attempt to send a mail, in the terms that transports report and everyone else acts on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What to do with the job."""

    DELIVERED = "delivered"
    TRY_AGAIN = "try_again"
    GIVE_UP = "give_up"


class Fault(StrEnum):
    """Whose fault it is that a mail was not delivered; decides whether another transport may do better."""

    NONE = "none"
    RECIPIENT = "recipient"  # the address: no transport will do better
    MAIL = "mail"  # this transport will not take this mail, others it will: another transport may take it
    TRANSPORT = "transport"  # it is ill, full or wrongly set up: another transport may do better, for every mail
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
    """What became of one attempt. `reason` is for logs and job histories: it holds no personal data.

    A mail is given up only for a fault of the recipient or the mail: those of a transport pass, or can be mended.
    `retry_after` are seconds that the other side asked us to wait.
    `for_all` says that any other mail would have fared alike: the server answers nobody, or won't have us.
    """

    kind: Kind
    fault: Fault
    reason: str
    transport: str = ""
    retry_after: float = 0.0
    for_all: bool = False


# Nobody's fault: it came to be too late, or another mailer's, on the way.
WITHHELD = Verdict(Kind.TRY_AGAIN, Fault.NONE, "not wanted any more")
SMTPUTF8_MISSING = Verdict(Kind.GIVE_UP, Fault.MAIL, "smtputf8 not offered")

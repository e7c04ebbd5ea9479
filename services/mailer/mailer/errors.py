"""What may go wrong in here.

MailerError             told to the operator by the command line
├── MalformedMailError  a job asks for a mail that can't be made: a bad address, link or code
├── SigningKeyError     the DKIM key can't be used
└── TransportError      a transport is not usable as configured, or its check failed
"""

from __future__ import annotations

from service_kit.errors import ServiceKitError

REFUSED_PAUSE = 60.0  # seconds until credentials that were refused are shown again: who asks sooner may be locked out


class MailerError(ServiceKitError):
    """Base of everything this package raises on purpose."""


class MalformedMailError(MailerError):
    """A mail can't be made of these values; the message names the field, never its value."""


class SigningKeyError(MailerError):
    """The DKIM key can't be used; the message names the file and what is wrong with it."""


class TransportError(MailerError):
    """A transport can't work as it is configured; the message says what to change.

    `pause` are seconds before which it is of no use, or not wanted, to try again.
    """

    def __init__(self, message: str, *, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause

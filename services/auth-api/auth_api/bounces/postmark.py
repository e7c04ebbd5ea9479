"""Postmark's bounce and spam complaint webhooks: one event a call, no signature but a secret of the operator's.

https://postmarkapp.com/developer/webhooks/bounce-webhook
"""

import hmac
from base64 import b64decode

from auth_api.bounces.reports import Event, Posted, Report, mapping, read_json, report
from auth_api.errors import WebhookRefusedError
from shared_store.suppressions import Reason

_REASONS = {
    "HardBounce": Reason.HARD_BOUNCE,
    "BadEmailAddress": Reason.HARD_BOUNCE,
    "SpamComplaint": Reason.COMPLAINT,
}


class Postmark:
    """Knows Postmark by a secret: the password of Basic authentication, or what the URL ends in."""

    name = "postmark"
    most = 262_144

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def read(self, posted: Posted, *, now: float) -> Report:  # noqa: ARG002 - nothing in these calls is signed
        """Check and read a call; raises as `Provider.read`."""
        given = posted.secret or _password(posted.headers.get("authorization", ""))
        if not hmac.compare_digest(given.encode(), self._secret):
            raise WebhookRefusedError("it brings no or another secret")
        event = mapping(read_json(posted.body), "the body")
        number = event.get("ID")  # the bounce's: the same again comes from Postmark, which did not hear our answer
        return report([event], _judge, field="Email", name=str(number) if isinstance(number, int) else "")


def _judge(event: Event) -> Reason | None:
    kind = event.get("RecordType", "Bounce")  # early versions of the bounce webhook had none
    if kind == "SpamComplaint":
        return Reason.COMPLAINT
    type_ = event.get("Type")
    return _REASONS.get(type_) if kind == "Bounce" and isinstance(type_, str) else None


def _password(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    try:
        decoded = b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        return ""
    return decoded.partition(":")[2]

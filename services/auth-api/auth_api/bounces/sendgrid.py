"""SendGrid's Signed Event Webhook: many events a call, signed by ECDSA over a time and the body as it came.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

import binascii
from base64 import b64decode
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from auth_api.bounces.reports import (
    Event,
    Posted,
    Report,
    check_time,
    is_about_the_address,
    mapping,
    read_json,
    report,
)
from auth_api.errors import WebhookKeyError, WebhookMalformedError, WebhookRefusedError
from shared_store.suppressions import Reason

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"

# Why SendGrid did not even try: the address is on one of its lists. Not: "Unsubscribed Address", whose owner may still
# want to log in.
_DROPPED = {
    "Bounced Address": Reason.HARD_BOUNCE,
    "Invalid": Reason.HARD_BOUNCE,
    "Spam Reporting Address": Reason.COMPLAINT,
}


class SendGrid:
    """Knows SendGrid by its verification key."""

    name = "sendgrid"
    most = 1_048_576  # a batch may have 768 KiB

    def __init__(self, key: str) -> None:
        self._key = read_key(key)

    def read(self, posted: Posted, *, now: float) -> Report:
        """Check and read a call; raises as `Provider.read`."""
        signature, timestamp = posted.headers.get(SIGNATURE, ""), posted.headers.get(TIMESTAMP, "")
        try:
            self._key.verify(b64decode(signature, validate=True), timestamp.encode() + posted.body, ECDSA(SHA256()))
        except (InvalidSignature, ValueError) as error:
            raise WebhookRefusedError("its signature is not by sendgrid_webhook_key") from error
        check_time(timestamp, now)
        events = read_json(posted.body)
        if not isinstance(events, list):
            raise WebhookMalformedError("the body is no list of events")
        # Not the signature: of a valid ECDSA signature anybody can make another one.
        name = sha256(timestamp.encode() + posted.body).hexdigest()
        return report([mapping(event, "an event") for event in events], _judge, field="email", name=name)


def read_key(text: str) -> EllipticCurvePublicKey:
    """Read a verification key as SendGrid shows it: base64 of its DER.

    Raises:
        WebhookKeyError: it is none.
    """
    try:
        key = load_der_public_key(b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
        raise WebhookKeyError("it is not a public key in base64") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise WebhookKeyError("it is a key of another kind than ECDSA's")
    return key


def _judge(event: Event) -> Reason | None:
    match event.get("event"):
        case "spamreport":
            return Reason.COMPLAINT
        case "bounce" if event.get("type") == "bounce" and is_about_the_address(event.get("status")):
            return Reason.HARD_BOUNCE
        case "dropped":
            reason = event.get("reason")
            return _DROPPED.get(reason) if isinstance(reason, str) else None
        case _:
            return None

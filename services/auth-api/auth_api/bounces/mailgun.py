"""Mailgun's webhooks: one event a call, signed by HMAC-SHA256 over a time and a token that comes once.

https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks
"""

import hmac

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
from auth_api.errors import WebhookMalformedError, WebhookRefusedError
from shared_store.suppressions import Reason

# Why Mailgun gave up. Others ("old", "generic", "espblock" …) are of mails that were too long on their way, or of us.
_REASONS = {
    "bounce": Reason.HARD_BOUNCE,
    "suppress-bounce": Reason.HARD_BOUNCE,
    "suppress-complaint": Reason.COMPLAINT,
}


class Mailgun:
    """Knows Mailgun by its signing key."""

    name = "mailgun"
    most = 262_144

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def read(self, posted: Posted, *, now: float) -> Report:
        """Check and read a call; raises as `Provider.read`."""
        values = mapping(read_json(posted.body), "the body")
        token = self._check(mapping(values.get("signature"), "the signature"), now)
        return report([mapping(values.get("event-data"), "event-data")], _judge, field="recipient", name=token)

    def _check(self, signature: Event, now: float) -> str:
        timestamp, token, given = (signature.get(name) for name in ("timestamp", "token", "signature"))
        if not (isinstance(timestamp, str) and isinstance(token, str) and isinstance(given, str)):
            raise WebhookMalformedError("the signature lacks timestamp, token or signature")
        text = (timestamp + token).encode("utf-8", "surrogatepass")
        wanted = hmac.new(self._key, text, "sha256").hexdigest()
        if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "surrogatepass")):
            raise WebhookRefusedError("its signature is not by mailgun_webhook_key")
        check_time(timestamp, now)
        return token


def _judge(event: Event) -> Reason | None:
    if event.get("event") == "complained":
        return Reason.COMPLAINT
    if event.get("event") != "failed" or event.get("severity") != "permanent":
        return None
    status = event.get("delivery-status")
    why = event.get("reason")
    about_us = isinstance(status, dict) and not is_about_the_address(status.get("enhanced-code"))
    return None if about_us or not isinstance(why, str) else _REASONS.get(why)

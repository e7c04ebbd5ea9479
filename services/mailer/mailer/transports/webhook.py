"""A program of the operator's own behind an HTTP address; docs/mail.md describes the request.

Signed as https://www.standardwebhooks.com says, so that libraries for the other side exist in most languages.
"""

from __future__ import annotations

import base64
import hmac
import json
import time

import httpx

from mailer.mails import Mail
from mailer.transports.http import Answer, HttpTransport, judge_status, refused
from mailer.verdicts import Fault, Verdict


class WebhookTransport(HttpTransport):
    """Hands mails over to a webhook; `token` is the secret that requests are signed with."""

    name = "webhook"
    takes_utf8 = True

    def request(self, mail: Mail) -> httpx.Request:
        """One mail."""
        fields: dict[str, object] = {
            "from": {"name": mail.sender.name, "email": mail.sender.address},
            "to": mail.to.address,
            "subject": mail.subject,
            "text": mail.text,
            "html": mail.html,
            "headers": dict(mail.headers_with_id),
        }
        return self._signed(mail.id, fields)

    def probe(self) -> httpx.Request:
        """A request without a mail: any answer shows that someone is there."""
        return self._client.build_request("HEAD", self._url)

    def explain(self, answer: Answer) -> str:
        """Only what stands before the program would say that it is away."""
        return "reachable" if answer.status < 500 else super().explain(answer)

    def judge(self, answer: Answer) -> Verdict:
        """By status; 422 says that the address can't be mailed."""
        return refused(answer, Fault.RECIPIENT, "refused") if answer.status == 422 else judge_status(answer)

    def _signed(self, job: str, fields: dict[str, object]) -> httpx.Request:
        content = json.dumps(fields, ensure_ascii=False).encode()
        stamp = str(int(time.time()))
        secret = self._token.removeprefix("whsec_")
        signature = hmac.digest(base64.b64decode(secret), f"{job}.{stamp}.".encode() + content, "sha256")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": job,
            "webhook-timestamp": stamp,
            "webhook-signature": "v1," + base64.b64encode(signature).decode(),
        }
        return self._client.build_request("POST", self._url, content=content, headers=headers)

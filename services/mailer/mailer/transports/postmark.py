"""Postmark's API."""

from __future__ import annotations

import httpx

from mailer.delivery import Fault, Kind, Verdict, judge_status
from mailer.mails import Mail
from mailer.transports.base import HttpTransport
from mailer.transports.http import post, retry_after

# Postmark's error codes that speak of the recipient: invalid request (its address), inactive recipient.
_RECIPIENT_CODES = frozenset({300, 406})


class PostmarkTransport(HttpTransport):
    """Sends through Postmark; a 2xx counts only with ErrorCode 0."""

    name = "postmark"

    async def send(self, mail: Mail, *, bound: float) -> Verdict:
        """Try once."""
        body = {
            "From": mail.sender.display,
            "To": mail.to.address,
            "Subject": mail.subject,
            "HtmlBody": mail.html,
            "TextBody": mail.text,
            "Headers": [{"Name": name, "Value": value} for name, value in mail.headers_with_id],
        }
        headers = {"X-Postmark-Server-Token": self._token, "Accept": "application/json"}
        return await post(
            mail, lambda: self._client.post(self._url, json=body, headers=headers), bound=bound, name=self.name,
            judge=_judge,
        )  # fmt: skip


def _judge(response: httpx.Response) -> Verdict:
    verdict = judge_status(response.status_code, retry_after=retry_after(response))
    code = _error_code(response)
    if verdict.kind is Kind.TRY_AGAIN or (verdict.kind is Kind.DELIVERED and code == 0):
        return verdict
    fault = Fault.RECIPIENT if code in _RECIPIENT_CODES else Fault.TRANSPORT
    return Verdict(Kind.GIVE_UP, fault, f"http {response.status_code} code {code}")


def _error_code(response: httpx.Response) -> int:
    try:
        code = response.json()["ErrorCode"]
    except (ValueError, KeyError, TypeError):
        return -1
    return code if isinstance(code, int) else -1

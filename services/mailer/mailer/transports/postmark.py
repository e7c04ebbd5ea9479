"""Postmark's API."""

from __future__ import annotations

import httpx

from mailer.mails import Mail
from mailer.transports.http import Answer, HttpTransport, judge_status, refused
from mailer.verdicts import Fault, Verdict

# Postmark's ErrorCodes that speak of the recipient or of the one request; all others are about us or our account, such
# as 10 token, 400 and 401 sender signature, 405 out of credits, 412 account pending, 413 account may not send.
_FAULTS = {
    300: Fault.RECIPIENT,  # invalid request: its address, unless the message speaks of ours
    402: Fault.MAIL,  # invalid JSON
    403: Fault.MAIL,  # invalid fields
    406: Fault.RECIPIENT,  # inactive: it bounced or complained before
    409: Fault.MAIL,  # JSON wanted
    411: Fault.MAIL,  # forbidden attachment
}


class PostmarkTransport(HttpTransport):
    """Sends through Postmark; a 2xx counts only with ErrorCode 0."""

    name = "postmark"

    def request(self, mail: Mail) -> httpx.Request:
        """One mail."""
        body = {
            "From": mail.sender.display,
            "To": mail.to.address,
            "Subject": mail.subject,
            "HtmlBody": mail.html,
            "TextBody": mail.text,
            "Headers": [{"Name": name, "Value": value} for name, value in mail.headers_with_id],
        }
        return self._client.build_request("POST", self._url, json=body, headers=self._headers)

    def probe(self) -> httpx.Request:
        """What server this token is for."""
        url = httpx.URL(self._url)
        path = url.path.removesuffix("/email") + "/server"
        return self._client.build_request("GET", url.copy_with(path=path), headers=self._headers)

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-Postmark-Server-Token": self._token, "Accept": "application/json"}

    def judge(self, answer: Answer) -> Verdict:
        """By status and ErrorCode."""
        code = answer.fields.get("ErrorCode")
        if 200 <= answer.status < 300 and code == 0:
            return judge_status(answer)
        if not isinstance(code, int):  # of a 2xx without a code nobody can say whether the mail was taken
            return refused(answer, Fault.UNKNOWN, "without ErrorCode") if answer.status < 300 else judge_status(answer)
        if answer.status >= 500 or answer.status == 429:
            return judge_status(answer)
        fault = _FAULTS.get(code, Fault.TRANSPORT)
        if code == 300 and "'From'" in answer.message:
            fault = Fault.TRANSPORT
        return refused(answer, fault, f"code {code}")

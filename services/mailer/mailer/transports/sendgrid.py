"""SendGrid's API."""

from __future__ import annotations

import httpx

from mailer.errors import TransportError
from mailer.mails import Mail
from mailer.transports.http import Answer, HttpTransport, judge_status, refused
from mailer.verdicts import Fault, Verdict


class SendGridTransport(HttpTransport):
    """Sends through SendGrid."""

    name = "sendgrid"

    def request(self, mail: Mail) -> httpx.Request:
        """One mail."""
        body = {
            "from": {"name": mail.sender.name, "email": mail.sender.address},
            "personalizations": [{"to": [{"email": mail.to.address}]}],
            "subject": mail.subject,
            "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
            "headers": dict(mail.headers_with_id),
        }
        return self._client.build_request("POST", self._url, json=body, headers=self._headers)

    def probe(self) -> httpx.Request:
        """What this key may do."""
        url = httpx.URL(self._url)
        path = url.path.removesuffix("/mail/send") + "/scopes"
        return self._client.build_request("GET", url.copy_with(path=path), headers=self._headers)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def explain(self, answer: Answer) -> str:
        """A good key may do more or less, but it must be able to send."""
        said = super().explain(answer)
        scopes = answer.fields.get("scopes")
        if isinstance(scopes, list) and "mail.send" not in scopes:
            raise TransportError('sendgrid: the key may not send; give it the permission "Mail Send"')
        return said

    def judge(self, answer: Answer) -> Verdict:
        """By status; at 400 the first error names the field that is wrong."""
        errors = answer.fields.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        field = first.get("field") if isinstance(first, dict) else None
        if answer.status == 400 and isinstance(field, str):
            if field.startswith("personalizations"):
                return refused(answer, Fault.RECIPIENT, "personalizations")
            if field.startswith("from"):
                return refused(answer, Fault.TRANSPORT, "from")
        return judge_status(answer)

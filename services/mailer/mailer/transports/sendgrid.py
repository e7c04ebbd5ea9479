"""SendGrid's API."""

from __future__ import annotations

from mailer.delivery import Verdict
from mailer.mails import Mail
from mailer.transports.base import HttpTransport
from mailer.transports.http import post


class SendGridTransport(HttpTransport):
    """Sends through SendGrid."""

    name = "sendgrid"

    async def send(self, mail: Mail, *, bound: float) -> Verdict:
        """Try once."""
        body = {
            "from": {"name": mail.sender.name, "email": mail.sender.address},
            "personalizations": [{"to": [{"email": mail.to.address}]}],
            "subject": mail.subject,
            "content": [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}],
            "headers": dict(mail.headers_with_id),
        }
        headers = {"Authorization": f"Bearer {self._token}"}
        return await post(
            mail, lambda: self._client.post(self._url, json=body, headers=headers), bound=bound, name=self.name
        )

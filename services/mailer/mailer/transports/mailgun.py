"""Mailgun's API, of either region: `mailgun_api` says which."""

from __future__ import annotations

import httpx

from mailer.delivery import Verdict
from mailer.mails import Mail
from mailer.transports.base import HttpTransport
from mailer.transports.http import post


class MailgunTransport(HttpTransport):
    """Sends through Mailgun."""

    name = "mailgun"

    async def send(self, mail: Mail, *, bound: float) -> Verdict:
        """Try once."""
        form = {
            "from": mail.sender.display,
            "to": mail.to.address,
            "subject": mail.subject,
            "html": mail.html,
            "text": mail.text,
            **{f"h:{name}": value for name, value in mail.headers_with_id},
        }
        auth = httpx.BasicAuth("api", self._token)
        return await post(mail, lambda: self._client.post(self._url, data=form, auth=auth), bound=bound, name=self.name)

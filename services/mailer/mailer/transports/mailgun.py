"""Mailgun's API, of either region: `mailgun_api` says which."""

from __future__ import annotations

import httpx

from mailer.errors import TransportError
from mailer.mails import Mail
from mailer.transports.http import Answer, HttpTransport, judge_status, refused
from mailer.verdicts import Fault, Verdict


class MailgunTransport(HttpTransport):
    """Sends through Mailgun."""

    name = "mailgun"

    def request(self, mail: Mail) -> httpx.Request:
        """One mail."""
        form = {
            "from": mail.sender.display,
            "to": mail.to.address,
            "subject": mail.subject,
            "html": mail.html,
            "text": mail.text,
            **{f"h:{name}": value for name, value in mail.headers_with_id},
        }
        return self._post(form)

    def probe(self) -> httpx.Request:
        """A mail without any field, which a good token has refused as such; sending keys may make no other call."""
        return self._post({})

    def _post(self, form: dict[str, str]) -> httpx.Request:
        request = self._client.build_request("POST", self._url, data=form)
        return next(httpx.BasicAuth("api", self._token).auth_flow(request))

    def explain(self, answer: Answer) -> str:
        """400 is what that request deserves."""
        if answer.status == 404:
            raise TransportError(
                "mailgun: no such domain (HTTP 404); see mailgun_domain, and mailgun_api for the region"
            )
        return "token accepted" if answer.status == 400 else super().explain(answer)

    def judge(self, answer: Answer) -> Verdict:
        """By status; at 400 the message names the parameter that is wrong."""
        if answer.status == 400 and "to parameter" in answer.message.replace("'", ""):
            return refused(answer, Fault.RECIPIENT, "to")
        if answer.status == 400 and "from parameter" in answer.message.replace("'", ""):
            return refused(answer, Fault.TRANSPORT, "from")
        return judge_status(answer)

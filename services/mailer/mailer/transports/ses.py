"""Amazon SES: version 2 of its API, signed with Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import httpx

from mailer.errors import TransportError
from mailer.mails import Mail
from mailer.transports.http import Answer, HttpTransport, judge_status, refused
from mailer.verdicts import Fault, Verdict

ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNED = ("content-type", "host", "x-amz-date")  # in the order that the algorithm wants

# By the exception's name; all others speak of us or our account: suspended, paused, not verified, quota, throttled.
_FAULTS = {"MessageRejected": Fault.MAIL, "BadRequestException": Fault.MAIL}


class SesTransport(HttpTransport):
    """Sends through Amazon SES, which gives each mail a Message-ID of its own. `token` is the secret access key."""

    name = "ses"

    def __init__(self, client: httpx.AsyncClient, *, url: str, token: str, key_id: str, region: str) -> None:
        super().__init__(client, url=url, token=token)
        self._key_id = key_id
        self._region = region

    def request(self, mail: Mail) -> httpx.Request:
        """One mail."""
        text, html = ({"Data": part, "Charset": "UTF-8"} for part in (mail.text, mail.html))
        body = {
            "FromEmailAddress": mail.sender.header.replace("\r\n", ""),
            "Destination": {"ToAddresses": [mail.to.address]},
            "Content": {
                "Simple": {
                    "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
                    "Body": {"Text": text, "Html": html},
                    "Headers": [{"Name": name, "Value": value} for name, value in mail.headers],
                }
            },
        }
        return self._signed(self._client.build_request("POST", f"{self._url}/v2/email/outbound-emails", json=body))

    def probe(self) -> httpx.Request:
        """The account's standing."""
        return self._signed(self._client.build_request("GET", f"{self._url}/v2/email/account"))

    def _signed(self, request: httpx.Request) -> httpx.Request:
        sign(
            request, key_id=self._key_id, secret=self._token, region=self._region, service="ses", now=datetime.now(UTC)
        )
        return request

    def explain(self, answer: Answer) -> str:
        """A key that may do no more than send is good enough."""
        if _error(answer) == "AccessDeniedException":
            return "key accepted; it may not see the account (ses:GetAccount)"
        said = super().explain(answer)
        if answer.fields.get("SendingEnabled") is False:
            raise TransportError("ses: sending is paused or suspended for this account")
        sandbox = answer.fields.get("ProductionAccessEnabled") is False
        return said + (", but the account is in the sandbox: only verified addresses get mail" if sandbox else "")

    def judge(self, answer: Answer) -> Verdict:
        """By status and the exception's name."""
        error = _error(answer)
        if not error or answer.status >= 500:
            return judge_status(answer)
        fault = _FAULTS.get(error, Fault.TRANSPORT)
        if fault is Fault.MAIL and "not verified" in answer.message:  # our own identity, or the account's sandbox
            fault = Fault.TRANSPORT
        return refused(answer, fault, error)


def _error(answer: Answer) -> str:
    """The exception's name, without the address that may follow it; empty where there is none."""
    name = answer.headers.get("x-amzn-ErrorType", "").partition(":")[0]
    return name if name.isascii() and name.isalpha() and len(name) < 60 else ""


def sign(request: httpx.Request, *, key_id: str, secret: str, region: str, service: str, now: datetime) -> None:
    """Add a signature over all of a request that has no query, as AWS documents Signature Version 4."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Date"] = stamp
    headers = {name: request.headers[name] for name in _SIGNED if name in request.headers}
    names = ";".join(headers)
    path, no_query = request.url.raw_path.decode(), ""
    lines = (f"{name}:{value}" for name, value in headers.items())
    digest = hashlib.sha256(request.content).hexdigest()
    canonical = "\n".join((request.method, path, no_query, *lines, "", names, digest))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    request.headers["Authorization"] = (
        f"{ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )

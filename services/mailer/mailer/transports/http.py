"""What the mail APIs share: one pooled client, one bounded exchange, and what an answer, or none, means."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx
import structlog

from mailer.errors import REFUSED_PAUSE, TransportError
from mailer.mails import Mail
from mailer.silence import end_in
from mailer.transports.tls import describe_tls
from mailer.verdicts import SMTPUTF8_MISSING, WITHHELD, Fault, Kind, Verdict

SHOWN = 200  # characters of an unexpected answer that go to the log
MOST_ANSWER = 64 * 1024
CHECK_BOUND, CHECK_CONNECTING = 10.0, 2.5
TOTAL = 300.0  # a backstop: every exchange has a shorter bound of its own
CONNECTING = 0.45  # the part of an exchange's time that TCP, and then TLS, may take

# The provider refuses this very request; another one may take the mail.
_REFUSED = frozenset({400, 413, 422})

log = structlog.stdlib.get_logger()


def open_http_client(connections: int, *, verify: ssl.SSLContext | bool = True) -> httpx.AsyncClient:
    """A client for mail APIs: connections are kept; redirects are not followed, they are nobody's business here."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30)
    headers = {"User-Agent": f"portier.io/{version('mailer')}", "Accept-Encoding": "identity"}
    return httpx.AsyncClient(limits=limits, timeout=TOTAL, follow_redirects=False, headers=headers, verify=verify)


class Answer:
    """A status, headers, and as much of the body as came in time and is not too much."""

    def __init__(self, response: httpx.Response, body: bytes) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.body = body
        stream = response.extensions.get("network_stream")
        self.tls = stream.get_extra_info("ssl_object") if stream is not None else None

    @property
    def fields(self) -> dict[str, Any]:
        """The body's JSON object; empty where it is none."""
        try:
            read = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return read if isinstance(read, dict) else {}

    @property
    def message(self) -> str:
        """What Postmark, Mailgun and Amazon call their explanation."""
        found = self.fields.get("Message") or self.fields.get("message")
        return found if isinstance(found, str) else ""


class HttpTransport:
    """A provider's API behind the shared client; the client is closed by whoever opened it."""

    name = ""
    takes_utf8 = False  # addresses whose local part is not ASCII

    def __init__(self, client: httpx.AsyncClient, *, url: str, token: str) -> None:
        self._client = client
        self._url = url
        self._token = token

    def request(self, mail: Mail) -> httpx.Request:
        """The request that sends a mail."""
        raise NotImplementedError

    def probe(self) -> httpx.Request:
        """A request that sends nothing and shows whether the token is good."""
        raise NotImplementedError

    def judge(self, answer: Answer) -> Verdict:
        """What an answer to `request` means."""
        return judge_status(answer)

    def explain(self, answer: Answer) -> str:
        """What an answer to `probe` means; raises TransportError where the transport can't work."""
        if answer.status in (401, 403):
            raise TransportError(f"{self.name}: the token is refused (HTTP {answer.status})", pause=REFUSED_PAUSE)
        if not 200 <= answer.status < 300:
            why = answer.message[:SHOWN] or "no explanation"
            raise TransportError(f"{self.name}: HTTP {answer.status}: {why}", pause=retry_after(answer))
        return "token accepted"

    async def send(
        self, mail: Mail, *, bound: float, silence: float | None = None, reply: float | None = None
    ) -> Verdict:
        """Try once."""
        if not (mail.to.address.isascii() or self.takes_utf8):
            return SMTPUTF8_MISSING
        if not mail.still_wanted():
            return WITHHELD
        sent = _Sent(reply)
        try:
            answer = await exchange(self._client, self.request(mail), bound=bound, silence=silence or bound, sent=sent)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            fault = Fault.UNKNOWN if sent.began else Fault.TRANSPORT
            reason = f"{'request' if sent.began else 'connect'} {type(error).__name__}"
            # A mail whose own time was short says nothing of how others would have fared.
            had_time = silence is not None and silence <= CONNECTING * bound
            for_all = had_time and isinstance(error, httpx.ConnectTimeout)
            return Verdict(Kind.TRY_AGAIN, fault, reason, for_all=for_all)
        verdict = self.judge(answer)
        if verdict.kind is not Kind.DELIVERED:
            shown = answer.body[:SHOWN].decode("utf-8", "replace")
            log.debug("mail_api_refused", transport=self.name, status=answer.status, answer=shown)
        return verdict

    async def check(self) -> str:
        """Ask the provider whether it knows us.

        Raises:
            TransportError: it can't be reached or doesn't, and why.
        """
        request = self.probe()
        try:
            answer = await exchange(self._client, request, bound=CHECK_BOUND, silence=CHECK_CONNECTING, sent=_Sent())
        except TimeoutError:
            raise TransportError(f"{self.name}: no answer within {CHECK_BOUND:.0f} s from {request.url.host}") from None
        except (httpx.HTTPError, OSError) as error:
            raise TransportError(f"{self.name}: {type(error).__name__}: {error}") from error
        tls = describe_tls(answer.tls) if answer.tls is not None else "no TLS"
        return f"{request.url.host}, {tls}, {self.explain(answer)}"

    async def aclose(self) -> None:
        """Nothing is open that is this transport's own."""


class _Sent:
    """Learns from httpcore whether the request's body began to leave: only then may the provider act on it.

    From then on the answer may take `reply` seconds, where that is given.
    """

    def __init__(self, reply: float | None = None) -> None:
        self.began = False
        self.whole = asyncio.timeout(None)
        self._reply = reply

    async def __call__(self, event: str, _info: dict[str, Any]) -> None:
        if event.endswith("send_request_body.started"):
            self.began = True
            if self._reply is not None:
                end_in(self.whole, self._reply)


async def exchange(
    client: httpx.AsyncClient, request: httpx.Request, *, bound: float, silence: float, sent: _Sent
) -> Answer:
    """One request and its answer within `bound` seconds; a body that breaks off, drips or is huge is cut short.

    TCP, and then TLS, end after `silence` seconds.

    Raises:
        httpx.HTTPError, TimeoutError: no status came.
    """
    # Connecting has bounds of httpx's own: it closes what it was opening, which it does not when it is cancelled.
    connecting = min(CONNECTING * bound, silence)
    request.extensions |= {"trace": sent, "timeout": {"connect": connecting, "pool": bound}}
    response = None
    body = bytearray()
    try:
        sent.whole = asyncio.timeout(bound)
        async with sent.whole:
            response = await client.send(request, stream=True)
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MOST_ANSWER:
                    break
    except (httpx.HTTPError, TimeoutError):
        if response is None:
            raise
    finally:
        if response is not None:
            await response.aclose()
    return Answer(response, bytes(body[:MOST_ANSWER]))


def retry_after(answer: Answer) -> float:
    """Seconds that Retry-After (RFC 9110 section 10.2.3) asks for, else X-RateLimit-Reset; 0 where neither can be read.

    The latter is a time in seconds with SendGrid, in milliseconds with Mailgun.
    """
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:8])
    reset = answer.headers.get("X-RateLimit-Reset", "").strip()
    try:
        if text:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
        at = float(reset) / (1000 if len(reset) > 11 else 1)
        return max(0.0, at - time.time()) if at < time.time() * 2 else 0.0
    except (ValueError, TypeError, OverflowError):
        return 0.0


def judge_status(answer: Answer) -> Verdict:
    """Say what a provider's HTTP status means, where its body says no more."""
    reason = f"http {answer.status}"
    if 200 <= answer.status < 300:
        return Verdict(Kind.DELIVERED, Fault.NONE, reason)
    if answer.status in _REFUSED:
        return Verdict(Kind.GIVE_UP, Fault.MAIL, reason)
    if answer.status == 504:  # behind the gateway someone may have taken it
        return Verdict(Kind.TRY_AGAIN, Fault.UNKNOWN, reason)
    wait, refused_us = retry_after(answer), answer.status == 401
    return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, reason, retry_after=wait, for_all=refused_us)


def refused(answer: Answer, fault: Fault, code: str) -> Verdict:
    """The verdict on a refusal whose body, by its code, says whose fault it is."""
    kind = Kind.TRY_AGAIN if fault in (Fault.TRANSPORT, Fault.UNKNOWN) else Kind.GIVE_UP
    return Verdict(kind, fault, f"http {answer.status} {code}", retry_after=retry_after(answer))

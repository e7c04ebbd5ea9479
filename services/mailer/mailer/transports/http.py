"""What the mail APIs have in common: one pooled client, and what an answer, or none, means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import httpx
import structlog

from mailer.delivery import SMTPUTF8_MISSING, WITHHELD, Fault, Kind, Verdict, judge_status
from mailer.mails import Mail

SHOWN = 200  # characters of an unexpected answer that go to the log
MOST_ANSWER = 64 * 1024
CHECK_BOUND = 10.0
TOTAL = 300.0  # a backstop: every attempt has a shorter bound of its own

log = structlog.stdlib.get_logger()


def open_http_client(connections: int) -> httpx.AsyncClient:
    """A client for mail APIs: connections are kept; redirects are not followed, they are nobody's business here."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30)
    return httpx.AsyncClient(
        limits=limits, timeout=TOTAL, follow_redirects=False, headers={"User-Agent": f"portier.io/{version('mailer')}"}
    )  # fmt: skip


def retry_after(response: httpx.Response) -> float:
    """Seconds that Retry-After asks for (RFC 9110 section 10.2.3); 0 where it says nothing that can be read."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:8])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


async def post(
    mail: Mail, send: Callable[[], Awaitable[httpx.Response]], *, bound: float, name: str,
    judge: Callable[[httpx.Response], Verdict] | None = None,
) -> Verdict:  # fmt: skip
    """Make one request and judge its answer."""
    if not mail.to.address.isascii():
        return SMTPUTF8_MISSING  # none of these providers takes such an address
    if not mail.still_wanted():
        return WITHHELD
    try:
        async with asyncio.timeout(bound):
            response = await send()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, f"connect {type(error).__name__}")
    except (httpx.HTTPError, TimeoutError) as error:
        return Verdict(Kind.TRY_AGAIN, Fault.UNKNOWN, f"request {type(error).__name__}")
    verdict = judge(response) if judge else judge_status(response.status_code, retry_after=retry_after(response))
    if verdict.kind is not Kind.DELIVERED:
        log.debug("mail_api_refused", transport=name, status=response.status_code, answer=response.text[:SHOWN])
    return verdict


async def reachable(client: httpx.AsyncClient, url: str) -> str:
    """Learn whether a provider can be reached, without sending anything.

    Raises:
        httpx.HTTPError: it can't.
    """
    response = await client.get(httpx.URL(url).copy_with(path="/"), timeout=CHECK_BOUND)
    return f"reachable (HTTP {response.status_code}); the token is first tried by a mail, see `mailer send-test`"

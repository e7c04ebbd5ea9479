"""The development inbox: an SMTP server that keeps the last mails in memory, and a page that shows them.

On loopback only, and for development only: whoever can open the page can log in as anyone.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from portier_broker.inbox_pages import HTML_PART_POLICY, html_part, inbox_page
from portier_broker.received_mail import ReceivedMail, parse
from portier_broker.web import SecurityHeaders, asset, serving

MOST_MAILS = 200
LARGEST_MAIL = 1_000_000  # bytes
_IDLE_TIMEOUT = 60.0  # seconds
# A page elsewhere on the net could otherwise have its own name point at 127.0.0.1 and read the mails (DNS rebinding).
_HOSTS = ["localhost", "127.0.0.1", "inbox.localhost"]


class Inbox:
    """The last mails, and aiosmtpd's handler that takes them in."""

    def __init__(self) -> None:
        self.mails: deque[ReceivedMail] = deque(maxlen=MOST_MAILS)
        self.received = 0

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the mail; the answer is SMTP's (RFC 5321, 4.2)."""
        self.received += 1
        mail = await asyncio.to_thread(
            parse,
            envelope.original_content or b"",
            number=self.received,
            received_at=datetime.now(UTC),
            sender=envelope.mail_from or "",
            recipients=list(envelope.rcpt_tos),
        )
        self.mails.append(mail)
        return f"250 OK kept as {mail.number}"

    def newest_first(self) -> list[ReceivedMail]:
        """The mails as the page shows them."""
        return sorted(self.mails, key=lambda mail: mail.number, reverse=True)

    def mail(self, number: int) -> ReceivedMail:
        """One mail. Raises: HTTPException 404 when it is not there, or not any more."""
        for mail in self.mails:
            if mail.number == number:
                return mail
        raise HTTPException(404, "There is no such mail (any more).")


@asynccontextmanager
async def receiving(inbox: Inbox, listener: socket.socket) -> AsyncIterator[None]:
    """Take mails on the listening socket while the block runs."""
    loop = asyncio.get_running_loop()
    sessions: WeakSet[SMTP] = WeakSet()

    def session() -> SMTP:
        protocol = SMTP(
            inbox,
            data_size_limit=LARGEST_MAIL,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="Portier Broker's development inbox",
            timeout=_IDLE_TIMEOUT,
            loop=loop,
        )
        sessions.add(protocol)
        return protocol

    server = await loop.create_server(session, sock=listener)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        for protocol in sessions:
            if protocol.transport is not None:
                cast("asyncio.WriteTransport", protocol.transport).abort()


def inbox_app(inbox: Inbox) -> Starlette:
    """The page, the mails' parts, and the same as JSON."""

    async def page(_request: Request) -> Response:
        return HTMLResponse(inbox_page(inbox.newest_first(), version=inbox.received))

    async def version(_request: Request) -> Response:
        return PlainTextResponse(str(inbox.received))

    async def as_json(_request: Request) -> Response:
        return JSONResponse([_as_json(mail) for mail in inbox.newest_first()])

    async def html(request: Request) -> Response:
        mail = inbox.mail(request.path_params["number"])
        if mail.html is None:
            raise HTTPException(404, "This mail has no HTML part.")
        return HTMLResponse(html_part(mail.html), headers={"Content-Security-Policy": HTML_PART_POLICY})

    async def source(request: Request) -> Response:
        mail = inbox.mail(request.path_params["number"])
        return Response(mail.source, media_type="text/plain", headers={"Content-Security-Policy": "sandbox"})

    async def style(_request: Request) -> Response:
        return asset("inbox.css", "text/css")

    async def script(_request: Request) -> Response:
        return asset("inbox.js", "text/javascript")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/version", version),
            Route("/mails.json", as_json),
            Route("/mails/{number:int}/html", html),
            Route("/mails/{number:int}/source", source),
            Route("/inbox.css", style),
            Route("/inbox.js", script),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)],
    )


def _as_json(mail: ReceivedMail) -> dict[str, object]:
    return {
        "number": mail.number,
        "received_at": mail.received_at.isoformat(),
        "sender": mail.sender,
        "recipients": list(mail.recipients),
        "from": mail.from_,
        "to": mail.to,
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
    }


@asynccontextmanager
async def running_inbox(*, smtp: socket.socket, web: socket.socket) -> AsyncIterator[Inbox]:
    """Run both while the block runs."""
    inbox = Inbox()
    async with receiving(inbox, smtp), serving(inbox_app(inbox), web):
        yield inbox

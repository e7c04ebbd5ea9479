"""From an exception to an answer: the one place where errors become HTTP.

An OAuth error goes back to the relying party where its redirect_uri is known to be its own; everything else is told
here, as a page or, to programs, as JSON. Nothing unexpected is described to the outside: it gets a reference that is
in the log.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from auth_api.errors import (
    BearerError,
    CorruptRecordError,
    LoginGoneError,
    MailCameBackError,
    MailRefusedError,
    NoSigningKeyError,
    OAuthError,
    TooManyAttemptsError,
)
from auth_api.oidc.authorization_request import AuthorizationRequest
from auth_api.oidc.responses import error_response
from auth_api.pages import ErrorKind
from auth_api.routes.answers import Answers, json_answer, leading_to
from auth_api.routes.requests import locale_of, wants_json
from shared_store.errors import CorruptRecord, StoreAway, StoreRefused, StoreUnavailable, StoreUnsaved

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

REFUSED_WAIT = 30  # seconds: a person has to mend it
EXPIRED = "The session has expired."
_REFERENCE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True, slots=True)
class Told:
    """What is told about an error, apart from how it looks."""

    status: int
    error: str
    description: str
    kind: ErrorKind
    retry_after: int | None = None
    reference: str | None = None


class Failures:
    """Wraps handlers so that each of their errors becomes an answer."""

    def __init__(
        self, answers: Answers, *, count_limited: Callable[[], None], count_store_error: Callable[[str], None]
    ) -> None:
        self._answers = answers
        self._count_limited = count_limited
        self._count_store_error = count_store_error

    def guard(self, handler: Handler) -> Handler:
        """Give the handler with its errors answered: as a page, or as JSON to who asks for it."""
        return self._guarded(handler, always_json=False)

    def guard_json(self, handler: Handler) -> Handler:
        """Give the handler of an endpoint that only programs call, with its errors answered as JSON."""
        return self._guarded(handler, always_json=True)

    def _guarded(self, handler: Handler, *, always_json: bool) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001  this is the border: nothing may get past it untold
                return self._answer(request, error, as_json=always_json or wants_json(request))

        return guarded

    def _answer(self, request: Request, error: Exception, *, as_json: bool) -> Response:
        if isinstance(error, OAuthError) and error.return_address is not None and not as_json:
            sent_back = error_response(error, issuer=self._answers.issuer)
            if sent_back is not None:
                log.debug("error_sent_back", error=error.error, description=error.description)
                return self._answers.carry(sent_back, error.return_address, locale=locale_of(request))
        if isinstance(error, MailCameBackError) and not as_json:
            return self._came_back(request, error.request, just_now=isinstance(error, MailRefusedError))
        told = self._tell(error)
        headers = {"retry-after": str(told.retry_after)} if told.retry_after is not None else {}
        if isinstance(error, BearerError):
            headers["www-authenticate"] = error.www_authenticate
        if as_json:
            content: dict[str, Any] = {
                "error": told.error,
                "error_description": told.description,
                "reference": told.reference,
            }
            return json_answer(content, status=told.status, headers=headers)
        again = _again(request) if told.kind is ErrorKind.UNAVAILABLE else None
        html = self._answers.pages.error(
            locale=locale_of(request),
            kind=told.kind,
            description=told.description,
            reference=told.reference,
            wait=told.retry_after,
            try_again=again,
            fields=dict(getattr(request.state, "form", ())) if request.method == "POST" else None,
            by_itself=request.method == "GET" or isinstance(error, StoreAway),
        )
        # What is sent again may lead on to any relying party, by redirects that Chromium holds to form-action, too.
        form_action = "'self' http:" if again is not None else "'self'"
        return self._answers.page(html, status=told.status, headers=headers, form_action=form_action)

    def _came_back(self, request: Request, asked: AuthorizationRequest, *, just_now: bool) -> Response:
        address = asked.address.original if asked.address else ""
        html = self._answers.pages.came_back(
            locale=locale_of(request),
            address=address,
            other_address={**asked.parameters(), "_login_hint": address},
            site_link=str(asked.client_id),
            just_now=just_now,
        )
        return self._answers.page(html, status=400, form_action=f"'self' {leading_to(asked.client_id)}")

    def _tell(self, error: Exception) -> Told:
        match error:
            case OAuthError():
                log.debug("error_shown", error=error.error, description=error.description)
                kind = ErrorKind.PROVIDER if error.status == 503 else ErrorKind.BAD_REQUEST
                return Told(error.status, error.error, error.description, kind)
            case LoginGoneError():
                return Told(400, "invalid_request", EXPIRED, ErrorKind.EXPIRED)
            case TooManyAttemptsError():
                self._count_limited()
                wait = error.retry_after
                return Told(429, "access_denied", "too many requests", ErrorKind.RATE_LIMITED, retry_after=wait)
            case StoreUnavailable() | StoreRefused() | CorruptRecord() | CorruptRecordError():
                self._count_store_error(CorruptRecord.reason if isinstance(error, CorruptRecordError) else error.reason)
                return _store_failed(error)
            case NoSigningKeyError():
                log.warning("no_signing_key", error=str(error))
                return _unavailable("the service has no signing key yet", 2)
            case _:
                reference = "".join(secrets.choice(_REFERENCE_ALPHABET) for _ in range(6))
                log.error("unexpected_error", reference=reference, exc_info=error)
                description = "an internal error, which the log has under the reference"
                return Told(500, "server_error", description, ErrorKind.INTERNAL, reference=reference)


def _store_failed(error: StoreUnavailable | StoreRefused | CorruptRecord | CorruptRecordError) -> Told:
    # The store has said what it refused or could not read; who knows one such login must not fill the log with it.
    if isinstance(error, CorruptRecord | CorruptRecordError):
        log.debug("record_unreadable", error=str(error))
        return _unavailable("something that the service keeps can't be read", REFUSED_WAIT)
    if isinstance(error, StoreRefused):
        log.debug("store_refused", error=str(error))
        return _unavailable("the service can't use its store until its operator has seen to it", REFUSED_WAIT)
    # That Redis is away, or can't write its snapshot, is said every few seconds already, however many ask meanwhile.
    tell = log.debug if isinstance(error, StoreAway | StoreUnsaved) else log.warning
    tell("store_unavailable", error=str(error))
    return _unavailable("the service can't reach its store for the moment", error.retry_after)


def _unavailable(description: str, retry_after: int) -> Told:
    return Told(503, "temporarily_unavailable", description, ErrorKind.UNAVAILABLE, retry_after=retry_after)


def _again(request: Request) -> str | None:
    """Give the address to try again: a GET's by itself, a POST's with what was typed."""
    if request.url.path.startswith("//") or (request.method == "POST" and not hasattr(request.state, "form")):
        return None
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path

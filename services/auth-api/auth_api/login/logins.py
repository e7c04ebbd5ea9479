"""A login by mail, from the authorization request to the answer: the rules, without HTTP.

Every method says how often it waits for Redis; a test counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from urllib.parse import urlencode
from zlib import crc32

import structlog

from auth_api.addresses import EmailAddress
from auth_api.client_address import ClientAddress
from auth_api.errors import CorruptRecordError, LoginGoneError, MailCameBackError, OAuthError
from auth_api.keyring import Keyring
from auth_api.login.attempts import Attempts, Subject
from auth_api.login.codes import new_code
from auth_api.login.completion import Completion, Confirmed
from auth_api.login.mail_results import MailResults
from auth_api.oidc.authorization_request import AuthorizationRequest
from auth_api.oidc.origins import display_origin
from auth_api.oidc.records import read_record, text_or_none, texts, write_record
from service_kit.logs import short_id
from service_kit.tracing import tell
from shared_store import logins
from shared_store.errors import QueueFull
from shared_store.logins import CodeStatus, ResendStatus, SessionId, StoredLogin
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.store import Store

log = structlog.get_logger(__name__)

GUESSES = 5  # wrong codes a login survives
MAILS = 4  # one login may cause, the first included
MAIL_MARGIN = 120  # seconds before a login's end after which its mail is not sent any more


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """What the operator chose; times in seconds, `queue_bound` in mails of one queue."""

    public_url: str
    session_ttl: int
    mail_wait: float
    queue_bound: int
    resend_delay: float


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request: the client's network address, the language to speak, the trace it belongs to."""

    ip: ClientAddress
    locale: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class MailSent:
    """A login that waits for its code. `outcome` is None while the mailers have not told one."""

    session_id: SessionId
    browser_secret: str
    request: AuthorizationRequest
    outcome: Outcome | None


class CodeAnswer(Enum):
    """What a code turned out to be."""

    RIGHT = auto()
    WRONG = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class CheckedCode:
    """A code looked at without consuming the login."""

    answer: CodeAnswer
    guesses_left: int
    request: AuthorizationRequest
    same_browser: bool


@dataclass(frozen=True, slots=True)
class Resent:
    """The answer to a wish for another mail; `wait` seconds until the next one may be had, None for no more."""

    request: AuthorizationRequest
    sent: bool
    wait: float | None
    outcome: Outcome | None = None


class Logins:
    """Begins, checks and completes logins by mail."""

    def __init__(
        self,
        *,
        store: Store,
        queues: Sequence[MailQueue],
        results: MailResults,
        keyring: Keyring,
        completion: Completion,
        attempts: Attempts,
        settings: LoginSettings,
    ) -> None:
        self._store = store
        self._queues = queues
        self._results = results
        self._keyring = keyring
        self._completion = completion
        self._attempts = attempts
        self._settings = settings

    async def send_mail(
        self, request: AuthorizationRequest, visitor: Visitor, *, refundable: Sequence[str]
    ) -> MailSent:
        """Keep the login and ask the mailers for its mail, then wait a moment for what became of that.

        Waits for Redis once. A login that a full queue refuses is refunded: its page tries again by itself.

        Raises:
            StoreUnavailable: also where the mail queue is full.
        """
        session_id = logins.new_session_id()
        code = new_code()
        browser_secret = logins.new_browser_secret()
        login = StoredLogin(request=request.to_json(), data=_write_data(refundable, visitor.locale))
        job = self._mail_job(request, visitor, session_id, code, life=self._settings.session_ttl)
        save = logins.save_for_code(
            session_id, login, code=code, browser_secret=browser_secret, ttl=self._settings.session_ttl
        )
        queue = self._queue_of(session_id)
        tell(login=job.login)
        with self._results.expecting(job.id) as result:
            try:
                await self._store.run_all(save, queue.enqueue(job, bound=self._settings.queue_bound))
            except QueueFull:
                self._attempts.take_back(refundable)
                raise
            outcome = await self._results.wait(queue, job.id, result, seconds=self._settings.mail_wait)
        log.info(
            "login_begun", login=job.login, site=str(request.client_id), job=job.id, mail=outcome or "not known yet"
        )
        return MailSent(session_id, browser_secret, request, outcome)

    async def resend(self, session_id: SessionId, browser_secret: str, visitor: Visitor) -> Resent:
        """Mail the same code again. Waits for Redis three times, once where it is refused.

        Raises:
            LoginGoneError: there is no such login, or this browser did not begin it.
            TooManyAttemptsError: the address has been sent as many mails as it may.
            MailCameBackError: the mail before came back.
        """
        allowed = await self._store.run(
            logins.allow_resend(
                session_id,
                browser_secret=browser_secret,
                delay=self._settings.resend_delay,
                mails=MAILS,
                operation=logins.new_operation_id(),
            )
        )
        if allowed.login is None:
            raise LoginGoneError("no such login for this browser")
        request = AuthorizationRequest.from_json(allowed.login.request)
        if allowed.status is not ResendStatus.SEND:
            wait = allowed.wait if allowed.status is ResendStatus.WAIT else None
            return Resent(request, sent=False, wait=wait)
        counted = await self._attempts.count_mail(_subject(request, visitor))
        if counted.came_back:
            self._attempts.take_mail_back(counted.mails)
            raise MailCameBackError(request)
        code = logins.open_code(allowed.sealed_code, browser_secret)
        first_locale = read_record(allowed.login.data, lambda fields: text_or_none(fields, "locale"))
        visitor = replace(visitor, locale=first_locale or visitor.locale)
        job = self._mail_job(request, visitor, session_id, code, life=allowed.life_left)
        queue = self._queue_of(session_id)
        tell(login=job.login)
        with self._results.expecting(job.id) as result:
            await self._store.run(queue.enqueue(job, bound=self._settings.queue_bound))
            outcome = await self._results.wait(queue, job.id, result, seconds=self._settings.mail_wait)
        log.info("mail_sent_again", login=job.login, job=job.id, mail=outcome or "not known yet")
        return Resent(request, sent=True, wait=self._settings.resend_delay, outcome=outcome)

    async def look_at_code(
        self, session_id: SessionId, code: str, *, browser_secret: str, visitor: Visitor
    ) -> CheckedCode:
        """Check a code, consuming nothing; a wrong one counts. Waits for Redis once.

        Raises:
            LoginGoneError: no login waits for a code under this id.
        """
        checked = await self._store.run(logins.look_at_code(session_id, code, guesses=GUESSES))
        request = self._seen(session_id, checked, visitor)
        answer = CodeAnswer[checked.status.name]
        return CheckedCode(answer, checked.guesses_left, request, checked.began_in(browser_secret))

    async def confirm(self, session_id: SessionId, code: str, visitor: Visitor) -> CheckedCode | Confirmed:
        """Check a code and end the login if it is right. Waits for Redis once, twice for response_type=code.

        Raises:
            LoginGoneError: no login waits for a code under this id.
        """
        self._keyring.check_ready()
        checked = await self._store.run(
            logins.confirm_code(session_id, code, guesses=GUESSES, operation=logins.new_operation_id())
        )
        request = self._seen(session_id, checked, visitor)
        if checked.status is not CodeStatus.RIGHT or checked.login is None:
            return CheckedCode(CodeAnswer[checked.status.name], checked.guesses_left, request, same_browser=False)
        confirmed = await self._completion.complete(
            request, login=short_id(session_id), refundable=_read_data(checked.login.data)
        )
        log.info("login_completed", login=short_id(session_id), site=str(request.client_id), by="mail")
        return confirmed

    async def cancel(self, session_id: SessionId, browser_secret: str) -> AuthorizationRequest:
        """End a login that its own browser gives up. Waits for Redis once.

        Raises:
            LoginGoneError: there is no such login, or this browser did not begin it.
        """
        call = logins.cancel(session_id, browser_secret=browser_secret, operation=logins.new_operation_id())
        login = await self._store.run(call)
        if login is None:
            raise LoginGoneError("no such login for this browser")
        tell(login=short_id(session_id))
        log.info("login_cancelled", login=short_id(session_id))
        return AuthorizationRequest.from_json(login.request)

    def _seen(self, session_id: SessionId, checked: logins.CodeCheck, visitor: Visitor) -> AuthorizationRequest:
        """Read the request behind a checked code, and count a wrong guess across logins."""
        tell(login=short_id(session_id), answer=str(checked.status))
        log.info("code_checked", login=short_id(session_id), answer=checked.status)
        if checked.status is CodeStatus.OTHER:
            raise OAuthError("temporarily_unavailable", "invalid session")
        if checked.login is None:
            raise LoginGoneError("no login waits for a code under this id")
        request = AuthorizationRequest.from_json(checked.login.request)
        if checked.status is not CodeStatus.RIGHT:
            self._attempts.count_wrong_guess(_subject(request, visitor))
        return request

    def _queue_of(self, session_id: SessionId) -> MailQueue:
        """All mails of one login go through one queue, so that a later one does not overtake."""
        return self._queues[crc32(session_id.encode()) % len(self._queues)]

    def _mail_job(
        self, request: AuthorizationRequest, visitor: Visitor, session_id: SessionId, code: str, *, life: float
    ) -> MailJob:
        now = self._keyring.now()
        query = urlencode({"session": session_id, "code": code})
        return MailJob(
            id=new_job_id(session_id),
            to=str(_address(request)),
            locale=visitor.locale,
            site=display_origin(request.client_id),
            link=f"{self._settings.public_url}/confirm?{query}",
            code=code,
            deadline=now + max(life - MAIL_MARGIN, life / 2),
            expires_in=int(life),
            reply_to=self._results.channel,
            trace=visitor.trace,
            login=short_id(session_id),
            requested_at=now,
        )


def _subject(request: AuthorizationRequest, visitor: Visitor) -> Subject:
    return Subject(visitor.ip, _address(request), request.client_id)


def _address(request: AuthorizationRequest) -> EmailAddress:
    if request.address is None:
        raise CorruptRecordError("a stored login has no address")
    return request.address


def _write_data(refundable: Sequence[str], locale: str) -> str:
    return write_record({"refundable": list(refundable), "locale": locale})


def _read_data(data: str) -> tuple[str, ...]:
    return read_record(data, lambda fields: texts(fields, "refundable"))

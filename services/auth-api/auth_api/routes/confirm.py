"""Where the mailed code and link come back, and what the person may do while waiting for them."""

from starlette.requests import Request
from starlette.responses import Response

from auth_api.addresses import display_address
from auth_api.errors import LoginGoneError, MailRefusedError
from auth_api.login.codes import read_code
from auth_api.login.completion import Confirmed
from auth_api.login.logins import CheckedCode, CodeAnswer, Logins
from auth_api.metrics import Metrics
from auth_api.oidc.authorization_request import AuthorizationRequest
from auth_api.oidc.origins import display_origin
from auth_api.pages import ErrorKind, Locale, Notice
from auth_api.routes.answers import Answers, json_answer, leading_to
from auth_api.routes.requests import (
    LoginCookie,
    form,
    is_own_post,
    locale_of,
    optional,
    query,
    single,
    speak,
    wants_json,
)
from auth_api.routes.visitors import Visitors
from shared_store.logins import SessionId, parse_session_id
from shared_store.mail_queue import Outcome


class Confirm:
    """Checks codes (`/confirm`), mails them again (`/resend`), gives up (`/cancel`)."""

    def __init__(
        self,
        *,
        answers: Answers,
        logins: Logins,
        visitors: Visitors,
        cookie: LoginCookie | None,
        metrics: Metrics,
    ) -> None:
        self._answers = answers
        self._logins = logins
        self._visitors = visitors
        self._cookie = cookie
        self._metrics = metrics

    async def look(self, http: Request) -> Response:
        """Answer the mailed link. Nothing is ever consumed here: scanners of mails open links, too."""
        if http.method == "HEAD":
            return Response()
        params = query(http)
        session_id, code = _session_of(single(params, "session")), read_code(single(params, "code"))
        return await self._look(http, session_id, code)

    async def confirm(self, http: Request) -> Response:
        """Answer a code that was typed, or the button behind the link."""
        params = await form(http)
        session_id, code = _session_of(single(params, "session")), read_code(single(params, "code"))
        goes_on_here = is_own_post(http) and optional(params, "device_ok") == "1"
        if not goes_on_here and not self._browser_secret(http, session_id):
            return await self._look(http, session_id, code)
        result = await self._logins.confirm(session_id, code, self._visitors.visitor(http))
        if isinstance(result, CheckedCode):
            return self._refuse(http, session_id, result)
        self._metrics.email_completed(result.request.address)
        return self._deliver(http, session_id, result)

    async def resend(self, http: Request) -> Response:
        """Mail the same code again."""
        session_id = _session_of(single(await form(http), "session"))
        secret = self._browser_secret(http, session_id)
        resent = await self._logins.resend(session_id, secret, self._visitors.visitor(http))
        speak(http, resent.request.ui_locales)
        if resent.outcome is Outcome.REJECTED:
            raise MailRefusedError(resent.request)
        notice = None
        if resent.sent:
            notice = Notice.RESENT if resent.outcome is Outcome.DELIVERED else Notice.LATE
        if wants_json(http):
            result = "verification_code_sent" if resent.sent else "wait"
            return json_answer({"result": result, "session": session_id})
        wait = None if resent.wait is None else int(resent.wait + 0.999)
        return self._code_page(http, session_id, resent.request, resend_in=wait, notice=notice)

    async def cancel(self, http: Request) -> Response:
        """Go back to the site without logging in."""
        session_id = _session_of(single(await form(http), "session"))
        request = await self._logins.cancel(session_id, self._browser_secret(http, session_id))
        speak(http, request.ui_locales)
        if not request.return_address.response_errors and not wants_json(http):
            html = self._answers.pages.cancelled(
                locale=self._locale(http, request),
                site=display_origin(request.client_id),
                site_link=str(request.client_id),
            )
            return self._answers.page(html)
        raise request.failure("access_denied", "the person cancelled the login")

    async def _look(self, http: Request, session_id: SessionId, code: str) -> Response:
        visitor = self._visitors.visitor(http)
        secret = self._browser_secret(http, session_id)
        checked = await self._logins.look_at_code(session_id, code, browser_secret=secret, visitor=visitor)
        if checked.answer is not CodeAnswer.RIGHT:
            return self._refuse(http, session_id, checked)
        if wants_json(http):
            return json_answer({"result": "unverified_device"}, status=403)
        pages, request = self._answers.pages, checked.request
        page = pages.same_browser if secret and checked.same_browser else pages.other_device
        html = page(
            locale=self._locale(http, request),
            site=display_origin(request.client_id),
            address=display_address(request.address) if request.address else "",
            session=session_id,
            code=code,
        )
        return self._answers.page(html, form_action=f"'self' {leading_to(request.client_id)}")

    def _refuse(self, http: Request, session_id: SessionId, checked: CheckedCode) -> Response:
        self._metrics.email_code_incorrect.inc()
        if wants_json(http):
            return json_answer({"result": "incorrect_code"}, status=403)
        if checked.answer is CodeAnswer.ENDED:
            kind = ErrorKind.TOO_MANY_GUESSES
            html = self._answers.pages.error(locale=self._locale(http, checked.request), kind=kind)
            return self._answers.page(html, status=403)
        return self._code_page(
            http, session_id, checked.request, resend_in=0, guesses_left=checked.guesses_left, status=403
        )

    def _deliver(self, http: Request, session_id: SessionId, done: Confirmed) -> Response:
        request = done.request
        cookie = self._cookie.clear(session_id) if self._browser_secret(http, session_id) and self._cookie else None
        if wants_json(http):
            state = request.return_address.state
            content = dict([done.answer]) | ({} if state is None else {"state": state})
            return json_answer(content, cookie=cookie)
        locale = self._locale(http, request)
        return self._answers.to_relying_party(request.return_address, [done.answer], locale=locale, cookie=cookie)

    def _code_page(
        self,
        http: Request,
        session_id: SessionId,
        request: AuthorizationRequest,
        *,
        resend_in: int | None,
        guesses_left: int | None = None,
        notice: Notice | None = None,
        status: int = 200,
    ) -> Response:
        own_browser = bool(self._browser_secret(http, session_id))
        html = self._answers.pages.confirm(
            locale=self._locale(http, request),
            site=display_origin(request.client_id),
            address=request.address.original if request.address else "",
            session=session_id,
            resend_in=resend_in if own_browser else None,
            other_address=request.parameters(),
            can_cancel=own_browser,
            guesses_left=guesses_left,
            notice=notice,
        )
        return self._answers.page(html, status=status, form_action=f"'self' {leading_to(request.client_id)}")

    def _browser_secret(self, http: Request, session_id: SessionId) -> str:
        return self._cookie.read(http, session_id) if self._cookie else ""

    def _locale(self, http: Request, request: AuthorizationRequest) -> Locale:
        speak(http, request.ui_locales)
        return locale_of(http)


def _session_of(text: str) -> SessionId:
    session_id = parse_session_id(text)
    if session_id is None:
        raise LoginGoneError("this can't be a session id")
    return session_id

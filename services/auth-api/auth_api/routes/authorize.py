"""The authorization endpoint."""

from starlette.requests import Request
from starlette.responses import Response

from auth_api.discovery.providers import Provider
from auth_api.errors import MailRefusedError
from auth_api.login.federation import Federation
from auth_api.login.logins import Logins, MailSent, Visitor
from auth_api.login.paths import Paths
from auth_api.metrics import Metrics
from auth_api.oidc.authorization_request import (
    AuthorizationPolicy,
    AuthorizationRequest,
    parse_authorization_request,
    wanted_languages,
)
from auth_api.oidc.origins import display_origin
from auth_api.pages import Notice
from auth_api.routes.answers import Answers, json_answer, leading_to
from auth_api.routes.requests import LoginCookie, Params, locale_of, parameters, speak, wants_json
from auth_api.routes.visitors import Visitors
from shared_store.mail_queue import Outcome


class Authorize:
    """Begins logins (`/auth`)."""

    def __init__(
        self,
        *,
        answers: Answers,
        logins: Logins,
        paths: Paths,
        federation: Federation,
        policy: AuthorizationPolicy,
        visitors: Visitors,
        cookie: LoginCookie | None,
        metrics: Metrics,
        resend_delay: int,
    ) -> None:
        self._answers = answers
        self._logins = logins
        self._paths = paths
        self._federation = federation
        self._policy = policy
        self._visitors = visitors
        self._cookie = cookie
        self._metrics = metrics
        self._resend_delay = resend_delay

    async def __call__(self, http: Request) -> Response:
        """Answer an authorization request (OpenID Connect Core section 3)."""
        as_json = wants_json(http)
        params = await parameters(http)
        speak(http, wanted_languages(params))
        request = parse_authorization_request(params, policy=self._policy, can_ask_for_address=not as_json)
        if request.address is None:
            return self._ask_for_address(http, request, params)
        visitor = self._visitors.visitor(http)
        path = await self._paths.choose(request, visitor)
        if path.provider is not None:
            return await self._by_provider(request, path.provider, path.refundable, as_json=as_json)
        return await self._by_mail(http, request, visitor, path.refundable, as_json=as_json)

    def _ask_for_address(self, http: Request, request: AuthorizationRequest, params: Params) -> Response:
        html = self._answers.pages.login_hint(
            locale=locale_of(http),
            site=display_origin(request.client_id),
            parameters=dict(params),
        )
        return self._answers.page(html, form_action=f"'self' {leading_to(request.client_id)}")

    async def _by_provider(
        self, request: AuthorizationRequest, provider: Provider, refundable: list[str], *, as_json: bool
    ) -> Response:
        self._metrics.provider_requested(request.address, provider.rel)
        sent = await self._federation.send(request, provider, refundable=refundable)
        cookie = self._cookie.set(sent.session_id, sent.browser_secret) if self._cookie else None
        if as_json:
            return json_answer({"result": "redirect_to_provider", "url": sent.url}, cookie=cookie)
        return self._answers.redirect(sent.url, cookie=cookie)

    async def _by_mail(
        self,
        http: Request,
        request: AuthorizationRequest,
        visitor: Visitor,
        refundable: list[str],
        *,
        as_json: bool,
    ) -> Response:
        self._metrics.email_requested(request.address)
        with self._metrics.measure(self._metrics.email_send, request.address):
            sent = await self._logins.send_mail(request, visitor, refundable=refundable)
        if sent.outcome is Outcome.REJECTED:
            raise MailRefusedError(request)
        cookie = self._cookie.set(sent.session_id, sent.browser_secret) if self._cookie else None
        if as_json:
            content = {"result": "verification_code_sent", "session": sent.session_id}
            return json_answer(content, cookie=cookie)
        return self._answers.page(
            self._code_page(http, sent), form_action=f"'self' {leading_to(request.client_id)}", cookie=cookie
        )

    def _code_page(self, http: Request, sent: MailSent) -> str:
        request = sent.request
        own_browser = self._cookie is not None
        return self._answers.pages.confirm(
            locale=locale_of(http),
            site=display_origin(request.client_id),
            address=request.address.original if request.address else "",
            session=sent.session_id,
            resend_in=self._resend_delay if own_browser else None,
            other_address=request.parameters(),
            can_cancel=own_browser,
            notice=None if sent.outcome is Outcome.DELIVERED else Notice.LATE,
        )

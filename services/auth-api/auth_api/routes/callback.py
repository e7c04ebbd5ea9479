"""Where identity providers send people back to.

A browser's answer is always posted here by a page of ours. What comes by GET needs that for its fragment. A provider's
own post (`form_post`) comes without our cookie, which is SameSite=Lax, and under the Content-Security-Policy of the
provider's page, whose form-action Chromium applies to our redirects as well.
A login is completed for the browser that began it. Another one sees which site and address it is about, and has to
press a button.
"""

from starlette.requests import Request
from starlette.responses import Response

from auth_api.addresses import display_address
from auth_api.errors import LoginGoneError
from auth_api.login.completion import Confirmed
from auth_api.login.federation import Awaited, Federation
from auth_api.metrics import Metrics
from auth_api.oidc.origins import display_origin
from auth_api.routes.answers import Answers, json_answer, leading_to
from auth_api.routes.requests import (
    LoginCookie,
    Params,
    form,
    is_own_post,
    locale_of,
    optional,
    query,
    single,
    speak,
    wants_json,
)
from shared_store.logins import parse_session_id

RETURNED_ERRORS = ("interaction_required", "login_required")
POSTED_AGAIN = "_again"  # marks what our own page has posted
GO_ON_HERE = "device_ok"  # the button of a browser that did not begin the login

_MAX_TOLD = 200


class Callback:
    """Takes providers' answers (`/callback`)."""

    def __init__(
        self, *, answers: Answers, federation: Federation, cookie: LoginCookie | None, metrics: Metrics
    ) -> None:
        self._answers = answers
        self._federation = federation
        self._cookie = cookie
        self._metrics = metrics

    async def show(self, http: Request) -> Response:
        """Answer with the page that posts query and fragment here. Nothing is looked at yet."""
        return self._post_again(http, query(http))

    async def take(self, http: Request) -> Response:
        """Answer a provider's response (Core section 3.2.2.5)."""
        params = await form(http)
        if optional(params, POSTED_AGAIN) != "1" and not wants_json(http):
            return self._post_again(http, params)
        session_id = parse_session_id(single(params, "state"))
        if session_id is None:
            raise LoginGoneError("this can't be a session id")
        awaited = await self._federation.awaited(session_id)
        speak(http, awaited.request.ui_locales)
        _pass_errors_on(awaited, params)
        token = optional(params, "id_token")
        if not token:
            raise awaited.request.failure("temporarily_unavailable", "missing request parameter id_token")
        await self._federation.check(awaited, token)
        if not self._may_complete(http, awaited, params):
            return self._ask_browser(http, awaited, token)
        done = await self._federation.complete(awaited)
        self._metrics.provider_completed(done.request.address)
        return self._deliver(http, awaited, done)

    def _may_complete(self, http: Request, awaited: Awaited, params: Params) -> bool:
        if self._cookie is not None and awaited.bridge.began_in(self._cookie.read(http, awaited.session_id)):
            return True
        return is_own_post(http) and optional(params, GO_ON_HERE) == "1"

    def _ask_browser(self, http: Request, awaited: Awaited, token: str) -> Response:
        if wants_json(http):
            return json_answer({"result": "unverified_device"}, status=403)
        request = awaited.request
        html = self._answers.pages.provider_login(
            locale=locale_of(http),
            site=display_origin(request.client_id),
            address=display_address(request.address) if request.address else "",
            fields={"state": awaited.session_id, "id_token": token, POSTED_AGAIN: "1", GO_ON_HERE: "1"},
        )
        return self._answers.page(html, form_action=f"'self' {leading_to(request.client_id)}")

    def _post_again(self, http: Request, params: Params) -> Response:
        fields = {name: optional(params, name) for name, _ in params if name != GO_ON_HERE} | {POSTED_AGAIN: "1"}
        html = self._answers.pages.callback(locale=locale_of(http), fields=fields)
        # The form's answer may be a redirect to any site; which one is not known before the post.
        return self._answers.page(html, form_action="'self' https: http:")

    def _deliver(self, http: Request, awaited: Awaited, done: Confirmed) -> Response:
        address = done.request.return_address
        cookie = None
        if self._cookie is not None and self._cookie.read(http, awaited.session_id):
            cookie = self._cookie.clear(awaited.session_id)
        if wants_json(http):
            content = dict([done.answer]) | ({} if address.state is None else {"state": address.state})
            return json_answer(content, cookie=cookie)
        return self._answers.to_relying_party(address, [done.answer], locale=locale_of(http), cookie=cookie)


def _pass_errors_on(awaited: Awaited, params: Params) -> None:
    """Tell the site what the provider could not do. The login goes on waiting: anybody may send an error."""
    error = optional(params, "error")
    if not error:
        return
    described = optional(params, "error_description")[:_MAX_TOLD] or "without a description"
    if error in RETURNED_ERRORS:
        raise awaited.request.failure(error, f"the identity provider answered: {described}")
    raise awaited.request.failure(
        "temporarily_unavailable", f"the identity provider answered {error[:50]}: {described}", status=503
    )

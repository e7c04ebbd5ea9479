"""Writing answers: pages with their headers, JSON, and what goes back to the relying party."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from auth_api.oidc.origins import Origin, display_origin
from auth_api.oidc.responses import FormPost, Redirect, ReturnAddress, authorization_response
from auth_api.pages import Locale, Pages

_NO_STORE = "no-cache, no-store"


@dataclass(frozen=True, slots=True)
class Answers:
    """Builds responses. `csp` replaces the built-in Content-Security-Policy where the operator set one."""

    pages: Pages
    issuer: str
    csp: str | None

    def page(
        self,
        html: str,
        *,
        status: int = 200,
        form_action: str = "'self'",
        cookie: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a page. `form_action` has to name where its forms lead in the end (see `leading_to`)."""
        response = Response(html, status, headers, media_type="text/html")
        response.headers["content-security-policy"] = self.csp or policy(form_action)
        response.headers.setdefault("cache-control", _NO_STORE)
        if cookie is not None:
            response.headers.append("set-cookie", cookie)
        return response

    def to_relying_party(
        self,
        address: ReturnAddress,
        params: list[tuple[str, str]],
        *,
        locale: Locale,
        cookie: str | None = None,
    ) -> Response:
        """Send an answer to a validated redirect_uri, in the response mode that was asked for."""
        answer = authorization_response(address, params, issuer=self.issuer)
        return self.carry(answer, address, locale=locale, cookie=cookie)

    def redirect(self, url: str, *, cookie: str | None = None) -> Response:
        """Send the browser to another address, which the caller has checked."""
        response = Response(status_code=303, headers={"location": url, "cache-control": _NO_STORE})
        if cookie is not None:
            response.headers.append("set-cookie", cookie)
        return response

    def carry(
        self, answer: Redirect | FormPost, address: ReturnAddress, *, locale: Locale, cookie: str | None = None
    ) -> Response:
        """Send the browser on with an answer: by redirect, or by a page that posts."""
        if isinstance(answer, Redirect):
            return self.redirect(answer.url, cookie=cookie)
        origin = address.redirect_uri.origin
        html = self.pages.form_post(
            locale=locale, site=display_origin(origin), redirect_uri=answer.action, fields=dict(answer.fields)
        )
        # Relying parties that guard their forms (Django's CSRF check, for one) look at the Referer of this post.
        referrer = {"referrer-policy": "strict-origin"}
        return self.page(html, form_action=leading_to(origin), cookie=cookie, headers=referrer)


def leading_to(origin: Origin) -> str:
    """Write the form-action of a page whose forms lead to a relying party in the end.

    Chromium holds every redirect that follows to it, also from the relying party to another site of its own, or from
    here to an identity provider. So it allows the scheme, not the origin alone: `http:` includes https (CSP 3).
    """
    return f"{origin} {origin.scheme}:"


def policy(form_action: str) -> str:
    """Write the Content-Security-Policy of a page."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action {form_action}"
    )


def json_answer(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None, cookie: str | None = None
) -> Response:
    """Send JSON that nobody may keep."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    response = Response(text, status, headers, media_type="application/json")
    response.headers.setdefault("cache-control", _NO_STORE)
    if cookie is not None:
        response.headers.append("set-cookie", cookie)
    return response

"""Answers to a relying party, by way of the browser: where they go and how they are written.

RFC 6749 §4.1.2, OAuth 2.0 Multiple Response Types, OAuth 2.0 Form Post Response Mode, RFC 9207 (`iss`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from auth_api.errors import OAuthError
from auth_api.oidc.origins import RedirectUri

ResponseMode = Literal["fragment", "query", "form_post"]

RESPONSE_MODES: tuple[ResponseMode, ...] = ("fragment", "form_post", "query")

_NOT_IN_DESCRIPTIONS = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


@dataclass(frozen=True, slots=True)
class ReturnAddress:
    """Where and how a relying party wants its answer; only ever made for a validated redirect_uri."""

    redirect_uri: RedirectUri
    response_mode: ResponseMode
    response_errors: bool
    state: str | None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the browser to `url` (with 303)."""

    url: str


@dataclass(frozen=True, slots=True)
class FormPost:
    """Show a page that posts the fields, in order, to `action`; whoever writes it escapes them for HTML."""

    action: str
    fields: tuple[tuple[str, str], ...]


def authorization_response(
    return_address: ReturnAddress, params: Sequence[tuple[str, str]], *, issuer: str
) -> Redirect | FormPost:
    """Write an answer: `state` if it came, the given parameters in their order, `iss`."""
    state = [] if return_address.state is None else [("state", return_address.state)]
    fields = (*state, *params, ("iss", issuer))
    uri = str(return_address.redirect_uri)
    if return_address.response_mode == "form_post":
        return FormPost(uri, fields)
    encoded = urlencode(fields, quote_via=quote, safe="")
    if return_address.response_mode == "fragment":
        return Redirect(f"{uri}#{encoded}")
    if "?" not in uri:
        return Redirect(f"{uri}?{encoded}")
    return Redirect(f"{uri}{encoded}" if uri.endswith(("?", "&")) else f"{uri}&{encoded}")


def error_response(error: OAuthError, *, issuer: str) -> Redirect | FormPost | None:
    """Write an error for the relying party, or None where it is to be shown here."""
    if error.return_address is None or not error.return_address.response_errors:
        return None
    # RFC 6749 §4.1.2.1 leaves out quotes, backslashes and all but ASCII.
    description = _NOT_IN_DESCRIPTIONS.sub("'", error.description)
    params = [("error", error.error), ("error_description", description)]
    return authorization_response(error.return_address, params, issuer=issuer)

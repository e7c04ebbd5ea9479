"""Reading what came in, within bounds: parameters, forms, cookies, who asks and in what language."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from auth_api.client_address import ClientAddress, ProxyNetwork, client_address
from auth_api.errors import OAuthError
from auth_api.oidc.authorization_request import MAX_PARAMETERS
from auth_api.pages import Locale, negotiate
from service_kit.logs import short_id

MAX_BODY = 65_536  # octets
MAX_QUERY = 32_768  # octets
MAX_ACCEPT = 2_000  # characters

Params = list[tuple[str, str]]
FORM = "application/x-www-form-urlencoded"
# Portier's clients redeem codes with a form that their `fetch` calls text; some programs do not call it anything.
_FORMS = (FORM, "text/plain", "")


class TooLargeError(OAuthError):
    """A query or body is longer than anything this service reads."""


def query(request: Request) -> Params:
    """Decode the query.

    Raises:
        OAuthError: it is too long, or not UTF-8.
    """
    raw: bytes = request.scope["query_string"]
    if len(raw) > MAX_QUERY:
        raise TooLargeError("invalid_request", f"the query is longer than {MAX_QUERY} octets", status=414)
    return _decode(raw)


async def form(request: Request) -> Params:
    """Read and decode a form; it stays at `request.state.form`, for a page that offers to send it again.

    Raises:
        OAuthError: it is something else than a form, too long, or not UTF-8.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _FORMS:
        raise OAuthError("invalid_request", f"the body must be a form ({FORM})")
    params = _decode(await body(request))
    request.state.form = params
    return params


async def body(request: Request, *, most: int = MAX_BODY) -> bytes:
    """Read a body of at most so many octets.

    Raises:
        TooLargeError: it is longer.
        OAuthError: the client hung up before its end, and will not hear of it.
    """
    chunks: list[bytes] = []
    length = 0
    try:
        async for chunk in request.stream():
            length += len(chunk)
            if length > most:
                raise TooLargeError("invalid_request", f"the body is longer than {most} octets", status=413)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise OAuthError("invalid_request", "the connection ended before the body did") from error
    return b"".join(chunks)


async def parameters(request: Request) -> Params:
    """Read the parameters of a request that may come by GET or POST; by POST those in the body alone count."""
    return await form(request) if request.method == "POST" else query(request)


def single(params: Params, name: str) -> str:
    """Give a parameter that has to be there once.

    Raises:
        OAuthError: it is missing, or came more than once.
    """
    value = optional(params, name)
    if not value:
        raise OAuthError("temporarily_unavailable", f"missing request parameter {name}")
    return value


def optional(params: Params, name: str) -> str:
    """Give a parameter that may be left out ('' then).

    Raises:
        OAuthError: it came more than once.
    """
    values = [value for key, value in params if key == name]
    if len(values) > 1:
        raise OAuthError("invalid_request", f"the request parameter {name} came more than once")
    return values[0] if values else ""


def _decode(raw: bytes) -> Params:
    try:
        return parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:  # not ASCII, escapes that are not UTF-8, or too many fields
        raise OAuthError("invalid_request", "the request parameters can't be decoded") from error


def wants_json(request: Request) -> bool:
    """Tell whether the answer is for a program: JSON is asked for, by quality, over HTML."""
    accept = request.headers.get("accept", "")
    if accept in ("application/json", ""):
        return accept != ""
    if len(accept) > MAX_ACCEPT or "json" not in accept:
        return False
    return _quality(accept, "application/json") > _quality(accept, "text/html")


def _quality(accept: str, media_type: Literal["application/json", "text/html"]) -> float:
    """The weight of a media type (RFC 9110 section 12.5.1); the most specific range decides."""
    ranges = {media_type: 3, media_type.partition("/")[0] + "/*": 2, "*/*": 1}
    best, weight = 0, 0.0
    for entry in accept.split(","):
        name, *options = (part.strip().lower() for part in entry.split(";"))
        specific = ranges.get(name, 0)
        if specific > best:
            best, weight = specific, _q(options)
    return weight


def _q(options: list[str]) -> float:
    for option in options:
        if option.startswith("q="):
            try:
                return min(max(float(option[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def is_own_post(request: Request) -> bool:
    """Whether a form's post came from a page of ours, or not from a browser: other sites' pages may fill in any field.

    Browsers say where a post comes from (Fetch Metadata, Sec-Fetch-Site); programs don't.
    """
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def speak(request: Request, ui_locales: tuple[str, ...]) -> None:
    """Let the answer be in the language that the relying party asked for, also where it becomes an error."""
    request.state.ui_locales = ui_locales


def locale_of(request: Request) -> Locale:
    """Choose the language of an answer: ui_locales, then Accept-Language, then English."""
    return negotiate(getattr(request.state, "ui_locales", ()), request.headers.get("accept-language"))


def ip_of(request: Request, trusted_proxies: tuple[ProxyNetwork, ...]) -> ClientAddress:
    """Find the client's network address behind the operator's proxies."""
    peer = request.client.host if request.client else None
    return client_address(peer, request.headers.getlist("x-forwarded-for"), trusted_proxies)


@dataclass(frozen=True, slots=True)
class LoginCookie:
    """The cookie by which a browser shows that it began a login: one a login, so that several can go on at once."""

    secure: bool
    max_age: int | None

    def name(self, session_id: str) -> str:
        """Name the cookie of one login. The prefix binds it to this host and to https where there is https."""
        return f"__Host-login-{short_id(session_id)}" if self.secure else f"login-{short_id(session_id)}"

    def read(self, request: Request, session_id: str) -> str:
        """Give the browser's secret, '' where it brings none."""
        return request.cookies.get(self.name(session_id), "")

    def set(self, session_id: str, secret: str) -> str:
        """Write Set-Cookie. Lax: it comes with the link from a web mail and with our own forms, never with others'."""
        life = "" if self.max_age is None else f"; Max-Age={self.max_age}"
        return f"{self.name(session_id)}={secret}; Path=/{life}; HttpOnly; SameSite=Lax{self._secure}"

    def clear(self, session_id: str) -> str:
        """Write the Set-Cookie that removes it."""
        return f"{self.name(session_id)}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{self._secure}"

    @property
    def _secure(self) -> str:
        return "; Secure" if self.secure else ""

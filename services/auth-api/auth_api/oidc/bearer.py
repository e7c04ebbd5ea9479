"""Access tokens as clients send them to /userinfo (RFC 6750): finding one, and refusing without one."""

import re
from collections.abc import Sequence

from auth_api.errors import BearerError

_REALM = 'Bearer realm="userinfo"'
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,512}=*")


def bearer_token(authorization_header: str | None, form: Sequence[tuple[str, str]] = ()) -> str:
    """The one access token of a request: from the header, or from the form of a POST; never from the query.

    Raises:
        BearerError: none (401), more than one (400), or one that cannot be ours (401).
    """
    scheme, _, credentials = (authorization_header or "").strip().partition(" ")
    tokens = [value for name, value in form if name == "access_token"]
    if scheme.lower() == "bearer":
        tokens.append(credentials.strip())
    if not tokens:
        # RFC 6750 §3.1: without any authentication there is no error code either, only the challenge.
        raise BearerError("invalid_request", "an access token is needed", status=401, www_authenticate=_REALM)
    if len(tokens) > 1:
        raise _refusal("invalid_request", "the access token came more than once", status=400)
    if len(tokens[0]) > 600 or not _TOKEN.fullmatch(tokens[0]):
        raise invalid_token()
    return tokens[0]


def invalid_token() -> BearerError:
    """The refusal of a token that is unknown, expired or malformed."""
    return _refusal("invalid_token", "the access token is unknown or has expired", status=401)


def _refusal(error: str, description: str, *, status: int) -> BearerError:
    challenge = f'{_REALM}, error="{error}", error_description="{description}"'
    return BearerError(error, description, status=status, www_authenticate=challenge)

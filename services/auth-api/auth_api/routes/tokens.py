"""The token endpoint, and what the access token is good for."""

import json

from starlette.requests import Request
from starlette.responses import Response

from auth_api.errors import CorruptRecordError
from auth_api.login.redemption import Redemption
from auth_api.oidc.bearer import bearer_token, invalid_token
from auth_api.oidc.token_request import parse_token_request
from auth_api.routes.answers import json_answer
from auth_api.routes.requests import FORM, form
from shared_store import auth_codes
from shared_store.store import Store


class Tokens:
    """Redeems authorization codes (`/token`), and tells what an access token lets know (`/userinfo`)."""

    def __init__(self, *, store: Store, redemption: Redemption) -> None:
        self._store = store
        self._redemption = redemption

    async def token(self, http: Request) -> Response:
        """Answer a token request (RFC 6749 section 4.1.3). Waits for Redis once."""
        params = await form(http)
        tokens = await self._redemption.redeem(parse_token_request(params, http.headers.get("authorization")))
        return json_answer(
            {
                "access_token": tokens.access_token,
                "token_type": "Bearer",
                "expires_in": tokens.lifetime,
                "id_token": tokens.id_token,
            },
            headers={"pragma": "no-cache"},
        )

    async def userinfo(self, http: Request) -> Response:
        """Answer a UserInfo request (OpenID Connect Core section 5.3). Waits for Redis once."""
        has_form = http.method == "POST" and http.headers.get("content-type", "").startswith(FORM)
        params = await form(http) if has_form else []
        claims = await self._store.run(auth_codes.read_claims(bearer_token(http.headers.get("authorization"), params)))
        if claims is None:
            raise invalid_token()
        return json_answer(_read_claims(claims))


def _read_claims(text: str) -> dict[str, object]:
    """Read what was kept of a person when their access token was made.

    Raises:
        CorruptRecordError: it is something else.
    """
    try:
        claims = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptRecordError("what an access token tells can't be read") from error
    if not isinstance(claims, dict) or not isinstance(claims.get("sub"), str):
        raise CorruptRecordError("what an access token tells names nobody")
    return claims

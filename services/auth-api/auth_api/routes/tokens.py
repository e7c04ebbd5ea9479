"""The token endpoint, and what the access token is good for."""

import json

from starlette.requests import Request
from starlette.responses import Response

from auth_api.errors import CorruptRecordError, OAuthError
from auth_api.keyring import Keyring
from auth_api.oidc.bearer import bearer_token, invalid_token
from auth_api.oidc.id_tokens import make_id_token
from auth_api.oidc.token_request import Grant, parse_token_request, redeem
from auth_api.routes.answers import json_answer
from auth_api.routes.requests import FORM, form
from shared_store import auth_codes
from shared_store.logins import new_operation_id
from shared_store.store import Store


class Tokens:
    """Redeems authorization codes (`/token`), and tells what an access token lets know (`/userinfo`)."""

    def __init__(self, *, store: Store, keyring: Keyring, issuer: str, token_ttl: int) -> None:
        self._store = store
        self._keyring = keyring
        self._issuer = issuer
        self._token_ttl = token_ttl

    async def token(self, http: Request) -> Response:
        """Answer a token request (RFC 6749 section 4.1.3). Waits for Redis once."""
        params = await form(http)
        request = parse_token_request(params, http.headers.get("authorization"))
        self._keyring.check_ready()
        access_token = auth_codes.new_access_token(request.code)
        redeemed = await self._store.run(
            auth_codes.take(
                request.code,
                access_token=access_token,
                access_ttl=self._token_ttl,
                operation=new_operation_id(),
            )
        )
        if redeemed is None:
            raise OAuthError("invalid_grant", "the code is unknown, has expired or was used before")
        grant = Grant.from_json(redeemed.grant)
        redeem(grant, request)
        id_token = make_id_token(
            grant.proof,
            key=self._keyring.signing_key(grant.signing_alg),
            issuer=self._issuer,
            issued_at=int(redeemed.time),
            lifetime=self._token_ttl,
            access_token=access_token,
        )
        return json_answer(
            {
                "access_token": access_token,
                "token_type": "Bearer",
                "expires_in": self._token_ttl,
                "id_token": id_token,
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
        try:
            return json_answer(json.loads(claims))
        except ValueError as error:
            raise CorruptRecordError("what an access token tells can't be read") from error

"""What follows a login with response_type=code: its code, once, for an ID token and an access token."""

from dataclasses import dataclass

import structlog

from auth_api.errors import OAuthError
from auth_api.keyring import Keyring
from auth_api.oidc.id_tokens import make_id_token
from auth_api.oidc.token_request import Grant, TokenRequest, redeem
from service_kit.tracing import tell
from shared_store import auth_codes
from shared_store.logins import new_operation_id
from shared_store.store import Store

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """What a code was good for; `lifetime` is in seconds, of both tokens."""

    access_token: str
    id_token: str
    lifetime: int


class Redemption:
    """Redeems codes. `issuer` is our public URL; `token_ttl` is in seconds."""

    def __init__(self, *, store: Store, keyring: Keyring, issuer: str, token_ttl: int) -> None:
        self._store = store
        self._keyring = keyring
        self._issuer = issuer
        self._token_ttl = token_ttl

    async def redeem(self, request: TokenRequest) -> IssuedTokens:
        """Take the code, whoever presents it, and give its tokens to the client that it was granted to.

        Waits for Redis once.

        Raises:
            OAuthError: `invalid_grant`, status 400.
            NoSigningKeyError: there is nothing to sign with; the code is good for another try.
        """
        self._keyring.check_ready()
        access_token = auth_codes.new_access_token(request.code)
        redeemed = await self._store.run(
            auth_codes.take(
                request.code, access_token=access_token, access_ttl=self._token_ttl, operation=new_operation_id()
            )
        )
        if redeemed is None:
            reason = "the code is unknown, has expired or was used before"
            log.info("code_refused", reason=reason)
            raise OAuthError("invalid_grant", reason)
        grant = Grant.from_json(redeemed.grant)
        if grant.login is not None:
            tell(login=grant.login)
        try:
            redeem(grant, request)
        except OAuthError as error:
            log.info("code_refused", login=grant.login, site=str(grant.proof.audience), reason=error.description)
            raise
        id_token = make_id_token(
            grant.proof,
            key=self._keyring.signing_key(grant.signing_alg),
            issuer=self._issuer,
            issued_at=int(redeemed.time),
            lifetime=self._token_ttl,
            access_token=access_token,
        )
        log.info("code_redeemed", login=grant.login, site=str(grant.proof.audience))
        return IssuedTokens(access_token, id_token, self._token_ttl)

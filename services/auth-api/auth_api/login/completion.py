"""The end of every login: what the relying party gets for a proven address."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from auth_api.errors import CorruptRecordError
from auth_api.keyring import Keyring
from auth_api.login.background import Background
from auth_api.oidc.authorization_request import AuthorizationRequest
from auth_api.oidc.id_tokens import Proof, make_id_token
from auth_api.oidc.token_request import Grant
from shared_store import auth_codes, rate_limits
from shared_store.store import Store


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A login that is over: its request, and what the relying party gets (`id_token` or `code`)."""

    request: AuthorizationRequest
    answer: tuple[str, str]


class Completion:
    """Makes answers for logins that have been consumed. `issuer` is our public URL; lifetimes in seconds."""

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        background: Background,
        issuer: str,
        token_ttl: int,
        auth_code_ttl: int,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._background = background
        self._issuer = issuer
        self._token_ttl = token_ttl
        self._auth_code_ttl = auth_code_ttl

    async def complete(self, request: AuthorizationRequest, *, login: str, refundable: Sequence[str]) -> Confirmed:
        """Make what the relying party gets for a proven address; `login` is its name in the log.

        Waits for Redis once for response_type=code.
        """
        if request.address is None:
            raise CorruptRecordError("a stored login has no address")
        self._background.start("refund_limits", self._store.run(rate_limits.refund(refundable)))
        proof = Proof(
            audience=request.client_id,
            address=request.address,
            nonce=request.nonce,
            auth_time=int(self._keyring.now()),
        )
        if request.response_type == "id_token":
            return Confirmed(request, ("id_token", self._id_token(proof, request)))
        code = auth_codes.new_auth_code()
        grant = Grant(
            proof=proof,
            redirect_uri=request.return_address.redirect_uri,
            signing_alg=request.signing_alg,
            code_challenge=request.code_challenge,
            login=login,
        )
        claims = json.dumps({"sub": str(proof.address), "email": str(proof.address), "email_verified": True})
        await self._store.run(auth_codes.save(code, grant=grant.to_json(), claims=claims, ttl=self._auth_code_ttl))
        return Confirmed(request, ("code", code))

    def _id_token(self, proof: Proof, request: AuthorizationRequest) -> str:
        return make_id_token(
            proof,
            key=self._keyring.signing_key(request.signing_alg),
            issuer=self._issuer,
            issued_at=proof.auth_time,
            lifetime=self._token_ttl,
        )

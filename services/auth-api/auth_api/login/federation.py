"""A login by an identity provider: the request to it, and its answer, believed after every check. No HTTP here.

Every method says how often it waits for Redis, apart from documents of the provider that the cache has not.
"""

import hmac
import json
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import structlog

from auth_api.discovery.provider import Jwk
from auth_api.discovery.providers import Provider, Providers
from auth_api.errors import CorruptRecordError, DiscoveryError, LoginGoneError, OAuthError, ProviderTokenError
from auth_api.keyring import Keyring
from auth_api.login.completion import Completion, Confirmed
from auth_api.oidc.authorization_request import AuthorizationRequest
from auth_api.oidc.provider_tokens import MAX_TOKEN_LENGTH, ProviderExpectation, verify_provider_token
from auth_api.oidc.records import one_of, read_record, text, texts, write_record
from service_kit.logs import short_id
from service_kit.tracing import tell
from shared_store import logins
from shared_store.logins import SessionId, StoredLogin
from shared_store.signing_keys import SIGNING_ALGS
from shared_store.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SentToProvider:
    """A login that waits for a provider: where the browser is to go, and the secret by which it is known again."""

    session_id: SessionId
    browser_secret: str
    url: str


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a login waiting for a provider remembers, beside its request."""

    expected: ProviderExpectation
    jwks_uri: str
    browser_hash: str
    refundable: tuple[str, ...]

    def began_in(self, browser_secret: str) -> bool:
        """Tell whether the secret of a browser's cookie is the one of the browser that began the login."""
        return hmac.compare_digest(self.browser_hash, logins.browser_hash(browser_secret).hex())

    def to_json(self) -> str:
        """Write it as the login's data."""
        expected = self.expected
        return write_record(
            {
                "issuer": expected.issuer,
                "audience": expected.audience,
                "nonce": expected.nonce,
                "algs": list(expected.algs),
                "google": expected.google or None,
                "jwks_uri": self.jwks_uri,
                "browser": self.browser_hash,
                "refundable": self.refundable,
            }
        )


@dataclass(frozen=True, slots=True)
class Awaited:
    """A login that waits for a provider's answer."""

    session_id: SessionId
    request: AuthorizationRequest
    bridge: Bridge


class Federation:
    """Begins, checks and completes logins by identity providers."""

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        completion: Completion,
        providers: Providers,
        public_url: str,
        session_ttl: int,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._completion = completion
        self._providers = providers
        self._public_url = public_url
        self._session_ttl = session_ttl

    async def send(
        self, request: AuthorizationRequest, provider: Provider, *, refundable: Sequence[str]
    ) -> SentToProvider:
        """Keep the login and write the request to the provider (Core section 3.2.2.1). Waits for Redis once."""
        if request.address is None:
            raise CorruptRecordError("a login without an address can't be sent to a provider")
        session_id = logins.new_session_id()
        browser_secret = logins.new_browser_secret()
        nonce = secrets.token_urlsafe(16)
        expected = ProviderExpectation(
            issuer=provider.origin,
            audience=provider.client_id,
            nonce=nonce,
            algs=(provider.alg,),
            address=request.address,
            google=provider.rel == "google",
        )
        bridge = Bridge(expected, provider.jwks_uri, logins.browser_hash(browser_secret).hex(), tuple(refundable))
        login = StoredLogin(request=request.to_json(), data=bridge.to_json())
        await self._store.run(logins.save_for_provider(session_id, login, ttl=self._session_ttl))
        tell(login=short_id(session_id))
        log.info("login_begun", login=short_id(session_id), site=str(request.client_id), provider=provider.origin)
        return SentToProvider(session_id, browser_secret, self._url(request, provider, session_id, nonce))

    async def awaited(self, session_id: SessionId) -> Awaited:
        """Give the login that an answer belongs to. Waits for Redis once.

        Raises:
            LoginGoneError: it is unknown, expired or over.
            OAuthError: it waits for something else than a provider.
        """
        stored = await self._store.run(logins.load(session_id))
        if stored is None:
            raise LoginGoneError("no login waits for a provider under this id")
        request = AuthorizationRequest.from_json(stored.request)
        bridge = read_record(stored.data, lambda fields: _bridge(fields, request))
        if bridge is None:
            raise OAuthError("temporarily_unavailable", "invalid session")
        return Awaited(session_id, request, bridge)

    async def check(self, awaited: Awaited, token: str) -> None:
        """Believe a provider's ID token or refuse it; nothing is consumed. Waits for Redis once.

        Raises:
            OAuthError: it is not to be believed, or the provider's keys can't be had.
        """
        try:
            keys = await self._providers.keys(awaited.bridge.jwks_uri)
            if _names_unknown_key(token, keys):
                keys = await self._providers.keys(awaited.bridge.jwks_uri, anew=True)
        except DiscoveryError as error:
            description = f"the identity provider's keys can't be had: {error}"
            raise awaited.request.failure("temporarily_unavailable", description, status=503) from error
        try:
            verify_provider_token(token, keys=keys, expected=awaited.bridge.expected, now=self._keyring.now())
        except ProviderTokenError as error:
            description = f"the identity provider's answer is not accepted: {error}"
            raise awaited.request.failure("temporarily_unavailable", description) from error

    async def complete(self, awaited: Awaited) -> Confirmed:
        """End a login whose answer has been checked, once. Waits for Redis once, twice for response_type=code.

        Raises:
            LoginGoneError: it is over by now.
        """
        self._keyring.check_ready()
        consumed = await self._store.run(logins.consume(awaited.session_id, operation=logins.new_operation_id()))
        if consumed is None:
            raise LoginGoneError("this login has been completed already")
        login = short_id(awaited.session_id)
        confirmed = await self._completion.complete(awaited.request, login=login, refundable=awaited.bridge.refundable)
        tell(login=login)
        log.info("login_completed", login=login, site=str(awaited.request.client_id), by="provider")
        return confirmed

    def _url(self, request: AuthorizationRequest, provider: Provider, session_id: SessionId, nonce: str) -> str:
        params = {
            "login_hint": str(request.address),
            "scope": "openid email",
            "nonce": nonce,
            "state": session_id,
            "response_type": "id_token",
            "client_id": provider.client_id,
            "redirect_uri": f"{self._public_url}/callback",
        }
        if request.prompt:
            params["prompt"] = " ".join(request.prompt)
        if provider.form_post:
            params["response_mode"] = "form_post"
        if provider.alg == "EdDSA":
            params |= {"id_token_signing_alg": provider.alg}
        endpoint = provider.authorization_endpoint
        separator = "&" if "?" in endpoint else "?"
        return f"{endpoint}{separator}{urlencode(params, quote_via=quote)}"


def _bridge(fields: Mapping[str, Any], request: AuthorizationRequest) -> Bridge | None:
    """Read what `Bridge.to_json` wrote; None for the data of a login by mail."""
    if "jwks_uri" not in fields:
        return None
    if request.address is None:
        raise CorruptRecordError("a stored login has no address")
    algs = tuple(one_of(SIGNING_ALGS, {"alg": alg}, "alg") for alg in texts(fields, "algs"))
    return Bridge(
        expected=ProviderExpectation(
            issuer=text(fields, "issuer"),
            audience=text(fields, "audience"),
            nonce=text(fields, "nonce"),
            algs=algs,
            address=request.address,
            google=fields.get("google") is True,
        ),
        jwks_uri=text(fields, "jwks_uri"),
        browser_hash=text(fields, "browser"),
        refundable=texts(fields, "refundable"),
    )


def _names_unknown_key(token: str, keys: Sequence[Jwk]) -> bool:
    """Tell whether a token's header names a key that is not there: the provider may have changed its keys."""
    head = token[:MAX_TOKEN_LENGTH].partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return False
    kid = header.get("kid") if isinstance(header, dict) else None
    return isinstance(kid, str) and all(key.get("kid") != kid for key in keys)

"""ID tokens that other identity providers send to /callback: believed only after every check (Core §3.2.2.11)."""

import hmac
import json
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from auth_api.addresses import EmailAddress, google_form, parse_address
from auth_api.errors import InvalidAddressError, ProviderTokenError
from shared_store.signing_keys import SIGNING_ALGS, SigningAlg

MAX_TOKEN_LENGTH = 16_384
LEEWAY_SECONDS = 30

_SMALLEST_RSA, _LARGEST_RSA = 2048, 8192
_MAX_JWK_NUMBER_LENGTH = 1400
_JWS = jwt.PyJWS(algorithms=list(SIGNING_ALGS))


@dataclass(frozen=True, slots=True)
class ProviderExpectation:
    """What a token must say: remembered from the request that sent the person to the provider.

    `audience` is our client_id there; `google` compares addresses in Google form.
    """

    issuer: str
    audience: str
    nonce: str
    algs: Collection[SigningAlg]
    address: EmailAddress
    google: bool = False


def verify_provider_token(
    token: str, *, keys: Sequence[Mapping[str, object]], expected: ProviderExpectation, now: float
) -> None:
    """Believe a token or raise. `keys` are the provider's JWKs as fetched, `now` Unix seconds.

    Raises:
        ProviderTokenError: the first check that failed, named. Nothing else is raised, whatever the token.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise ProviderTokenError(f"the token is longer than {MAX_TOKEN_LENGTH} characters")
    claims = _signed_claims(token, keys, expected.algs)
    if claims.get("iss") != expected.issuer:
        raise ProviderTokenError("iss is not the provider's origin")
    _check_audience(claims, expected.audience)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(_octets(nonce), _octets(expected.nonce)):
        raise ProviderTokenError("nonce is not the one of the request")
    if not now < _seconds(claims, "exp") + LEEWAY_SECONDS:
        raise ProviderTokenError("the token has expired")
    if not _seconds(claims, "iat") - LEEWAY_SECONDS <= now:
        raise ProviderTokenError("iat lies in the future")
    _check_email(claims, expected)


def _signed_claims(token: str, keys: Sequence[Mapping[str, object]], algs: Collection[SigningAlg]) -> dict[str, Any]:
    try:
        header = _JWS.get_unverified_header(token)
        alg = next((alg for alg in SIGNING_ALGS if alg in algs and alg == header.get("alg")), None)
        if alg is None:
            raise ProviderTokenError("alg is not the one that was asked for")
        public_key = _public_key(_only_key(keys, header.get("kid"), alg), alg)
        payload = _JWS.decode_complete(token, public_key, algorithms=[alg])["payload"]
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise ProviderTokenError("the token is malformed or its signature is wrong") from error
    try:
        claims = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProviderTokenError("the claims are not JSON") from error
    if not isinstance(claims, dict):
        raise ProviderTokenError("the claims are not a JSON object")
    return claims


def _only_key(keys: Sequence[Mapping[str, object]], kid: object, alg: SigningAlg) -> Mapping[str, object]:
    if not isinstance(kid, str) or not kid:
        raise ProviderTokenError("kid is missing")
    found = [key for key in keys if (key.get("kid"), key.get("use"), key.get("alg")) == (kid, "sig", alg)]
    if len(found) != 1:
        raise ProviderTokenError(f"kid names {len(found)} signing keys of the algorithm, not one")
    return found[0]


def _public_key(jwk: Mapping[str, object], alg: SigningAlg) -> RSAPublicKey | Ed25519PublicKey:
    try:
        if alg == "RS256" and jwk.get("kty") == "RSA":
            e, n = (int.from_bytes(_jwk_octets(jwk, name), "big") for name in ("e", "n"))
            if _SMALLEST_RSA <= n.bit_length() <= _LARGEST_RSA and e.bit_length() <= 64:
                return RSAPublicNumbers(e, n).public_key()
        if alg == "EdDSA" and (jwk.get("kty"), jwk.get("crv")) == ("OKP", "Ed25519"):
            return Ed25519PublicKey.from_public_bytes(_jwk_octets(jwk, "x"))
    except (ValueError, Base64Error, UnsupportedAlgorithm) as error:
        raise ProviderTokenError("the provider's key cannot be read") from error
    raise ProviderTokenError("the provider's key has a type or size that is not accepted")


def _jwk_octets(jwk: Mapping[str, object], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str) or len(value) > _MAX_JWK_NUMBER_LENGTH:
        raise ProviderTokenError("the provider's key cannot be read")
    return urlsafe_b64decode(value + "=" * (-len(value) % 4))


def _check_audience(claims: Mapping[str, Any], audience: str) -> None:
    """Core §3.1.3.7, 3 to 5: ours alone, or ours among others with us as the authorized party."""
    aud, azp = claims.get("aud"), claims.get("azp")
    if aud not in (audience, [audience]) and not (isinstance(aud, list) and audience in aud and azp == audience):
        raise ProviderTokenError("aud is not our client_id")
    if azp not in (None, audience):
        raise ProviderTokenError("azp is not our client_id")


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise ProviderTokenError(f"{name} is no time")
    return value


def _check_email(claims: Mapping[str, Any], expected: ProviderExpectation) -> None:
    email = claims.get("email")
    if not isinstance(email, str) or not _is_same_address(email, expected):
        raise ProviderTokenError("email is not the address that was to be proved")
    if claims.get("email_original", str(expected.address)) != str(expected.address):
        raise ProviderTokenError("email_original is not the address that was to be proved")
    if claims.get("email_verified", True) not in (True, "true"):
        raise ProviderTokenError("the provider has not verified the address")


def _is_same_address(email: str, expected: ProviderExpectation) -> bool:
    if not expected.google:
        return email == str(expected.address)
    try:
        return google_form(parse_address(email)) == google_form(expected.address)
    except InvalidAddressError:
        return False


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")

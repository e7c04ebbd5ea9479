"""The token request (RFC 6749 §4.1.3, §5.2; RFC 7636 §4.5): read once, then held against what was granted.

Taking the code out of the store, exactly once, comes between the two and is the store's business.
"""

import hmac
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_plus

from auth_api.addresses import parse_address
from auth_api.errors import InvalidOriginError, OAuthError
from auth_api.oidc.id_tokens import Proof
from auth_api.oidc.origins import RedirectUri, parse_origin, parse_redirect_uri
from auth_api.oidc.parameters import missing, read_parameters
from auth_api.oidc.records import number, one_of, read_record, text, text_or_none, write_record
from shared_store.signing_keys import SIGNING_ALGS, SigningAlg

_MAX_OCTETS = {
    "grant_type": 100,
    "code": 512,
    "redirect_uri": 4096,
    "client_id": 1024,
    "client_secret": 4096,
    "code_verifier": 1024,
}
_MAX_AUTHORIZATION_LENGTH = 8192
_CODE_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A well-formed token request; whether its code is good is seen in `redeem`."""

    code: str
    redirect_uri: str | None
    client_id: str | None
    code_verifier: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What an authorization code stands for, kept in the store until it is redeemed or expires there.

    Attributes:
        login: The login's name in the log; None in a grant that an earlier version wrote.
    """

    proof: Proof
    redirect_uri: RedirectUri
    signing_alg: SigningAlg
    code_challenge: str | None
    login: str | None = None

    def to_json(self) -> str:
        """The grant as it is stored under its code."""
        return write_record(
            {
                "redirect_uri": str(self.redirect_uri),
                "email_original": self.proof.address.original,
                "nonce": self.proof.nonce,
                "auth_time": self.proof.auth_time,
                "signing_alg": self.signing_alg,
                "code_challenge": self.code_challenge,
                "login": self.login,
            }
        )

    @classmethod
    def from_json(cls, stored: str | bytes) -> "Grant":
        """Read a stored grant.

        Raises:
            CorruptRecordError: it is not one that this version wrote.
        """
        return read_record(stored, _from_fields)


def parse_token_request(form: Sequence[tuple[str, str]], authorization_header: str | None) -> TokenRequest:
    """Check a token request's decoded form fields and its Authorization header.

    Secrets are never looked at: clients are public, but many libraries insist on sending one.

    Raises:
        OAuthError: RFC 6749 §5.2, status 400.
    """
    given = read_parameters(form)
    given.check_form(_MAX_OCTETS)
    if "grant_type" not in given:
        raise missing("grant_type")
    if given["grant_type"] != "authorization_code":
        raise OAuthError("unsupported_grant_type", "unsupported grant_type, must be authorization_code")
    if "code" not in given:
        raise missing("code")
    client_id = _client_id(given.optional("client_id"), authorization_header)
    # A code that someone else caught must not be enough: it takes the verifier, or at least the redirect_uri.
    if "redirect_uri" not in given and "code_verifier" not in given:
        raise missing("redirect_uri")
    return TokenRequest(given["code"], given.optional("redirect_uri"), client_id, given.optional("code_verifier"))


def redeem(grant: Grant, request: TokenRequest) -> None:
    """Check that whoever sends the code is the client that it was granted to.

    Raises:
        OAuthError: `invalid_grant`, status 400.
    """
    if request.client_id is not None and request.client_id != str(grant.redirect_uri.origin):
        raise OAuthError("invalid_grant", "the code was granted to another client")
    if request.redirect_uri is not None and request.redirect_uri != str(grant.redirect_uri):
        raise OAuthError("invalid_grant", "the redirect_uri is not the one of the authorization request")
    if grant.code_challenge is None:
        # RFC 9700 §4.8.2: else an attacker could strip the challenge from a request unseen.
        if request.code_verifier is not None:
            raise OAuthError("invalid_grant", "the authorization request had no code_challenge")
    elif not _is_verified(request.code_verifier or "", grant.code_challenge):
        raise OAuthError("invalid_grant", "the code_verifier does not fit the code_challenge")


def _is_verified(verifier: str, challenge: str) -> bool:
    if not _CODE_VERIFIER.fullmatch(verifier):
        return False
    expected = urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).rstrip(b"=")
    return hmac.compare_digest(expected, challenge.encode("ascii", "replace"))


def _client_id(in_form: str | None, authorization_header: str | None) -> str | None:
    in_header = _basic_user(authorization_header or "")
    if in_form and in_header and in_form != in_header:
        raise OAuthError("invalid_request", "client_id differs from the one in the Authorization header")
    return in_form or in_header


def _basic_user(header: str) -> str | None:
    """The client_id of Basic credentials, None for another scheme or an empty name.

    RFC 6749 §2.3.1 has both parts form-urlencoded; some libraries send them raw, and an origin holds `:` itself.
    """
    if len(header) > _MAX_AUTHORIZATION_LENGTH:
        raise OAuthError("invalid_request", "the Authorization header is too long")
    scheme, _, encoded = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        # A client_id is ASCII, so that whatever encoding the secret has, it can be told from it.
        credentials = b64decode(encoded.strip(), validate=True).decode("latin-1")
    except ValueError as error:
        raise OAuthError("invalid_request", "the Authorization header cannot be decoded") from error
    if ":" not in credentials:
        raise OAuthError("invalid_request", "the Authorization header holds no credentials")
    if credentials.startswith(("http://", "https://")):
        return _raw_basic_user(credentials)
    return unquote_plus(credentials.partition(":")[0]) or None


def _raw_basic_user(credentials: str) -> str:
    """The longest beginning, up to a colon, that is an origin; the secret behind it may hold colons too."""
    user = credentials
    while user.count(":") > 1:
        user = user.rpartition(":")[0]
        try:
            return str(parse_origin(user))
        except InvalidOriginError:
            continue
    return user


def _from_fields(fields: Mapping[str, Any]) -> Grant:
    redirect_uri = parse_redirect_uri(text(fields, "redirect_uri"))
    return Grant(
        proof=Proof(
            audience=redirect_uri.origin,
            address=parse_address(text(fields, "email_original")),
            nonce=text_or_none(fields, "nonce"),
            auth_time=number(fields, "auth_time"),
        ),
        redirect_uri=redirect_uri,
        signing_alg=one_of(SIGNING_ALGS, fields, "signing_alg"),
        code_challenge=text_or_none(fields, "code_challenge"),
        login=text_or_none(fields, "login"),
    )

"""Authorization codes and the access tokens that come of them.

Redis holds neither: a code lies under its SHA-256, an access token's secret as its SHA-256. An access token is the
code's digest and a secret, so that both lie in one slot and a code presented twice can take its token along.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from shared_store.commands import Call, Reply, command, load_script, nothing
from shared_store.errors import CorruptRecord
from shared_store.keyspace import ACCESS_TOKEN, AUTH_CODE

REDEEMED_FOR = 30_000  # ms a redeemed code goes on answering the same operation sent again

_ACCESS_TOKEN = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
_SAVE = load_script("save_auth_code")
_TAKE = load_script("take_auth_code")


def new_auth_code() -> str:
    """Make an authorization code: 32 random bytes as base64url, 43 characters."""
    return secrets.token_urlsafe(32)


def new_access_token(code: str) -> str:
    """Make the access token that is issued for a code: the code's digest, a dot, 32 random bytes."""
    return f"{_digest(code)}.{secrets.token_urlsafe(32)}"


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What an authorization code stood for, and the server's time (Unix seconds) when it was redeemed."""

    grant: str
    time: float


def save(code: str, *, grant: str, claims: str, ttl: float) -> Call[None]:
    """Keep a code for `ttl` seconds: `grant` for the token endpoint, `claims` for userinfo (both JSON)."""
    key = AUTH_CODE.key(digest=_digest(code))
    return Call((_SAVE([key], int(ttl * 1000), grant, claims),), nothing)


def take(code: str, *, access_token: str, access_ttl: float, operation: str) -> Call[Redeemed | None]:
    """Redeem a code: exactly one operation ever gets what it stands for; None for every other."""

    def decode(replies: list[Reply]) -> Redeemed | None:
        if replies[0] is None:
            return None
        grant, seconds, microseconds = replies[0]
        return Redeemed(_text(grant), int(seconds) + int(microseconds) / 1_000_000)

    digest = _digest(code)
    keys = [AUTH_CODE.key(digest=digest), ACCESS_TOKEN.key(digest=digest)]
    token_hash = _secret_hash(access_token)
    return Call((_TAKE(keys, operation, REDEEMED_FOR, token_hash, int(access_ttl * 1000)),), decode)


def read_claims(access_token: str) -> Call[str | None]:
    """Read what an access token lets its holder know; None where it is unknown, expired or withdrawn."""
    match = _ACCESS_TOKEN.fullmatch(access_token)
    if match is None:
        return Call((), lambda _replies: None)

    def decode(replies: list[Reply]) -> str | None:
        secret_hash, claims = replies[0]
        if secret_hash is None or not hmac.compare_digest(secret_hash, _secret_hash(access_token)):
            return None
        return _text(claims)

    return Call((command("HMGET", ACCESS_TOKEN.key(digest=match[1]), "secret", "claims"),), decode)


def _digest(code: str) -> str:
    hashed = hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def _secret_hash(access_token: str) -> bytes:
    return hashlib.sha256(access_token.encode()).digest()


def _text(value: bytes | None) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError as error:
        raise CorruptRecord("an authorization code in Redis is not what auth-api writes there") from error

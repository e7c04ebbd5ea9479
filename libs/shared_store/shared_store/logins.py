"""Logins in flight: from the authorization request to the answer, at most `session_ttl` seconds.

The store keeps what auth-api wrote about the request without looking into it; what it knows itself is the code's
hash, the wrong guesses, the browser that began the login, and whether it is over.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared_store.commands import Call, Reply, Value, command, load_script, nothing
from shared_store.errors import CorruptRecord
from shared_store.keyspace import LOGIN
from shared_store.scanning import tags_of
from shared_store.store import Store

SessionId = NewType("SessionId", str)

CONSUMED_FOR = 30_000  # ms a login that is over goes on answering the same operation sent again
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}")

_SAVE = load_script("save_login")
_CHECK_CODE = load_script("check_code")
_CONSUME = load_script("consume_login")
_ALLOW_RESEND = load_script("allow_resend")


def new_session_id() -> SessionId:
    """Make a session id: 32 random bytes as base64url, 43 characters."""
    return SessionId(secrets.token_urlsafe(32))


def parse_session_id(text: str) -> SessionId | None:
    """Read a session id from outside; None for anything that can't be one."""
    return SessionId(text) if _SESSION_ID.fullmatch(text) else None


def new_browser_secret() -> str:
    """Make the secret for the cookie of the browser that begins a login."""
    return secrets.token_urlsafe(32)


def new_operation_id() -> str:
    """Make the id by which a script knows the same operation sent again."""
    return secrets.token_urlsafe(12)


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What auth-api wrote: the authorization request, and its own data on how the address is proven (both JSON)."""

    request: str
    data: str


class CodeStatus(StrEnum):
    """What became of a code that a person brought."""

    RIGHT = "right"
    WRONG = "wrong"
    ENDED = "ended"  # wrong, and it was the last guess: the login is over
    GONE = "gone"  # no such login, expired, or over
    OTHER = "other"  # this login waits for something else than a code


@dataclass(frozen=True, slots=True)
class CodeCheck:
    """The answer to a code; `login` is there unless the status is GONE or OTHER."""

    status: CodeStatus
    guesses_left: int
    login: StoredLogin | None
    browser_hash: bytes = b""

    def began_in(self, browser_secret: str) -> bool:
        """Tell whether the secret of a browser's cookie is the one of the browser that began the login."""
        return hmac.compare_digest(self.browser_hash, browser_hash(browser_secret))


class ResendStatus(StrEnum):
    """Whether a login's mail may be sent once more."""

    SEND = "send"
    WAIT = "wait"
    SPENT = "spent"  # as many mails as one login may cause
    GONE = "gone"
    OTHER = "other"  # asked by another browser than the one that began the login


@dataclass(frozen=True, slots=True)
class Resend:
    """The answer to a wish for another mail; `wait` is in seconds."""

    status: ResendStatus
    wait: float = 0.0
    login: StoredLogin | None = None
    sealed_code: bytes = b""
    life_left: float = 0.0
    sends: int = 0


def code_hash(session_id: SessionId, code: str) -> bytes:
    """Give what is stored in place of a code: HMAC-SHA-256 of it under the session id, 32 bytes."""
    return hmac.digest(session_id.encode(), code.encode("utf-8", "surrogatepass"), "sha256")


def browser_hash(secret: str) -> bytes:
    """Give what is stored in place of the secret in the browser's cookie."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def seal_code(code: str, browser_secret: str) -> bytes:
    """Encrypt a code so that only the browser that began the login can have it mailed again.

    The key is derived from the cookie's secret, of which Redis holds a hash alone.
    """
    return AESGCM(_seal_key(browser_secret)).encrypt(bytes(12), code.encode(), None)


def open_code(sealed: bytes, browser_secret: str) -> str:
    """Undo `seal_code`.

    Raises:
        CorruptRecord: the sealed code is not what was stored, or the secret is another browser's.
    """
    try:
        return AESGCM(_seal_key(browser_secret)).decrypt(bytes(12), sealed, None).decode()
    except (InvalidTag, ValueError) as error:
        raise CorruptRecord("the code stored for sending it again can't be opened") from error


def _seal_key(browser_secret: str) -> bytes:
    # The secret is 32 random bytes and seals one code only, so a hash is a sound key and the nonce may be fixed.
    return hashlib.sha256(b"resend:" + browser_secret.encode("utf-8", "surrogatepass")).digest()


def save_for_code(
    session_id: SessionId, login: StoredLogin, *, code: str, browser_secret: str, ttl: float
) -> Call[None]:
    """Keep a login that waits for a mailed code, for `ttl` seconds."""
    return _save(
        session_id,
        login,
        ttl,
        {
            "code": code_hash(session_id, code),
            "browser": browser_hash(browser_secret),
            "sealed": seal_code(code, browser_secret),
        },
    )


def save_for_provider(session_id: SessionId, login: StoredLogin, *, ttl: float) -> Call[None]:
    """Keep a login that waits for an identity provider's answer, for `ttl` seconds."""
    return _save(session_id, login, ttl, {})


def _save(session_id: SessionId, login: StoredLogin, ttl: float, more: Mapping[str, Value]) -> Call[None]:
    fields: dict[str, Value] = {"request": login.request, "data": login.data, **more}
    words = [word for pair in fields.items() for word in pair]
    return Call((_SAVE([LOGIN.key(session=session_id)], int(ttl * 1000), *words),), nothing)


def load(session_id: SessionId) -> Call[StoredLogin | None]:
    """Read a login without changing it; None where it is gone or over."""

    def decode(replies: list[Reply]) -> StoredLogin | None:
        request, data, op = replies[0]
        return None if request is None or op is not None else _stored(request, data)

    return Call((command("HMGET", LOGIN.key(session=session_id), "request", "data", "op"),), decode)


def look_at_code(session_id: SessionId, code: str, *, guesses: int) -> Call[CodeCheck]:
    """Check a code without consuming the login. A wrong one counts as a guess all the same."""
    return _check(session_id, code, guesses, "look", new_operation_id())


def confirm_code(session_id: SessionId, code: str, *, guesses: int, operation: str) -> Call[CodeCheck]:
    """Check a code and, where it is right, consume the login: exactly one operation ever gets RIGHT."""
    return _check(session_id, code, guesses, "consume", operation)


def _check(session_id: SessionId, code: str, guesses: int, mode: str, operation: str) -> Call[CodeCheck]:
    def decode(replies: list[Reply]) -> CodeCheck:
        status, left, request, data, browser = replies[0]
        login = None if request is None else _stored(request, data)
        return CodeCheck(CodeStatus(status.decode()), int(left), login, browser or b"")

    key = LOGIN.key(session=session_id)
    return Call((_CHECK_CODE([key], code_hash(session_id, code), guesses, mode, operation, CONSUMED_FOR),), decode)


def consume(session_id: SessionId, *, operation: str) -> Call[StoredLogin | None]:
    """End a login without a code: exactly one operation ever gets it."""
    return _consume(session_id, operation, b"")


def cancel(session_id: SessionId, *, browser_secret: str, operation: str) -> Call[StoredLogin | None]:
    """End a login that the browser which began it gives up; None where there is none of its own."""
    return _consume(session_id, operation, browser_hash(browser_secret))


def _consume(session_id: SessionId, operation: str, browser: bytes) -> Call[StoredLogin | None]:
    def decode(replies: list[Reply]) -> StoredLogin | None:
        return None if replies[0] is None else _stored(*replies[0])

    return Call((_CONSUME([LOGIN.key(session=session_id)], operation, CONSUMED_FOR, browser),), decode)


def allow_resend(
    session_id: SessionId, *, browser_secret: str, delay: float, mails: int, operation: str
) -> Call[Resend]:
    """Ask for another mail of this login: not before `delay` seconds after the last, at most `mails` in all."""

    def decode(replies: list[Reply]) -> Resend:
        status, milliseconds, request, data, sealed, sends = replies[0]
        kind = ResendStatus(status.decode())
        return Resend(
            status=kind,
            wait=milliseconds / 1000 if kind is ResendStatus.WAIT else 0.0,
            login=None if request is None else _stored(request, data),
            sealed_code=sealed or b"",
            life_left=milliseconds / 1000 if kind is ResendStatus.SEND else 0.0,
            sends=int(sends),
        )

    key = LOGIN.key(session=session_id)
    return Call(
        (_ALLOW_RESEND([key], browser_hash(browser_secret), int(delay * 1000), mails, operation),),
        decode,
    )


def _stored(request: Reply, data: Reply) -> StoredLogin:
    try:
        return StoredLogin(request=request.decode(), data=data.decode())
    except (AttributeError, UnicodeDecodeError) as error:
        raise CorruptRecord("a login in Redis is not what auth-api writes there") from error


@dataclass(frozen=True, slots=True)
class LoginState:
    """What an operator may see of a login in flight."""

    session_id: SessionId
    login: StoredLogin
    waits_for_code: bool
    over: bool
    wrong_guesses: int
    mails: int
    seconds_left: float


async def find(store: Store, wanted: Callable[[SessionId], bool]) -> LoginState | None:
    """Look through all logins in flight for one; slow on a busy server, for people who debug."""
    async for tag in tags_of(store, LOGIN.key(session="*")):
        if wanted(SessionId(tag)):
            return await store.run(_state(SessionId(tag)))
    return None


def _state(session_id: SessionId) -> Call[LoginState | None]:
    def decode(replies: list[Reply]) -> LoginState | None:
        (request, data, code, op, wrong, sends), milliseconds = replies
        if request is None:
            return None
        return LoginState(
            session_id=session_id,
            login=_stored(request, data),
            waits_for_code=code is not None,
            over=op is not None,
            wrong_guesses=int(wrong or 0),
            mails=int(sends or 1) if code is not None else 0,
            seconds_left=milliseconds / 1000,
        )

    key = LOGIN.key(session=session_id)
    fields = ("request", "data", "code", "op", "wrong", "sends")
    return Call((command("HMGET", key, *fields), command("PTTL", key)), decode)

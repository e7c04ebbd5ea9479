"""Private keys at rest: AES-256-GCM under `key_encryption_key`, so that a copy of Redis' files signs nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared_store.errors import StoreError

_PREFIX = "sealed:1:"
_NONCE = 12  # octets


class SealError(StoreError):
    """A sealed private key can't be opened with the keys configured."""


class Sealer:
    """Seals under the first key-encryption key and opens what any of them sealed; without keys it leaves text as it is.

    A key-encryption key is text of any length from the configuration; at least 32 random characters are expected.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        keys = [hashlib.sha256(b"portier key encryption:" + secret.encode()).digest() for secret in secrets]
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers), None)

    def seal(self, text: str, *, context: str) -> str:
        """Seal a text; it opens only in the same context (which key of which algorithm it is)."""
        if self._first is None:
            return text
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[self._first].encrypt(nonce, text.encode(), context.encode())
        return f"{_PREFIX}{self._first}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, text: str, *, context: str) -> str:
        """Undo `seal`; a text that was stored unsealed is returned as it is.

        Raises:
            SealError: it was sealed under another key, for another context, or is damaged.
        """
        if not text.startswith(_PREFIX):
            return text
        key_id, _, body = text.removeprefix(_PREFIX).partition(":")
        if key_id not in self._ciphers:
            raise SealError(
                f"a signing key in Redis is sealed under a key-encryption key (id {key_id}) that is not configured: "
                "add it to key_encryption_key, after the one in use"
            )
        try:
            octets = _octets(body)
            return self._ciphers[key_id].decrypt(octets[:_NONCE], octets[_NONCE:], context.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise SealError("a sealed signing key in Redis is damaged: import it again") from error

    def is_current(self, text: str) -> bool:
        """Tell whether a stored text is as `seal` would write it now (sealed under the first key, or not at all)."""
        if self._first is None:
            return not text.startswith(_PREFIX)
        return text.startswith(f"{_PREFIX}{self._first}:")


def _octets(text: str) -> bytes:
    """Decode base64 in its one canonical form (RFC 4648, section 3.5); ValueError for all others."""
    octets = base64.b64decode(text, validate=True)
    if base64.b64encode(octets).decode() != text:
        raise ValueError("there are bits that decoding ignores")
    return octets


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"id:" + key).hexdigest()[:8]

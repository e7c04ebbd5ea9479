"""DKIM (RFC 6376, 8463): signs mails that we hand over as raw MIME; mail APIs sign by themselves.

dkimpy reads and canonicalises. The signature itself is cryptography's, since dkimpy's RSA is Python's own and takes
ten times as long, with the event loop standing still.
"""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Self

import dkim
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from dkim.canonicalization import CanonicalizationPolicy

from mailer.errors import SigningKeyError

LINE = 72  # characters of the signature
LEAST_RSA_BITS = 1024  # RFC 8301 section 3.2: with less, verifiers take it for no signature
# Those that a mail of ours has once are signed twice and those that it has not once: a second From, a Reply-To or the
# like that somebody adds on the way breaks the signature (RFC 6376 section 8.15).
_ONCE = ("from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-language")
_NEVER = ("cc", "reply-to", "sender", "in-reply-to", "references", "content-transfer-encoding")
_SIGNED = tuple(name.encode() for name in (*_ONCE, "auto-submitted", "list-id", *_ONCE, *_NEVER))
_RELAXED = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed")


class DkimSigner:
    """Signs with one key; safe to call from several threads at once."""

    def __init__(self, *, domain: str, selector: str, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
        self._domain = domain.encode("idna")
        self._selector = selector.encode("idna")
        self._key = key
        self._algorithm = b"rsa-sha256" if isinstance(key, RSAPrivateKey) else b"ed25519-sha256"

    @classmethod
    def from_file(cls, path: Path, *, domain: str, selector: str) -> Self:
        """Make a signer of a PEM file.

        Raises:
            SigningKeyError: it holds no key that DKIM can use, or domain or selector can't stand in the DNS.
        """
        key = read_key(path)
        try:
            return cls(domain=domain, selector=selector, key=key)
        except UnicodeError as error:
            raise SigningKeyError(f"no key can be published at {selector}._domainkey.{domain}") from error

    def __call__(self, content: bytes) -> bytes:
        """The mail with its signature on top."""
        headers, body = dkim.rfc822_parse(content)
        tags = (
            (b"v", b"1"), (b"a", self._algorithm), (b"c", _RELAXED.to_c_value()),
            (b"d", self._domain), (b"s", self._selector), (b"t", b"%d" % time.time()),
            (b"h", b" : ".join(_SIGNED)), (b"bh", _digest(_RELAXED.canonicalize_body(body))), (b"b", b""),
        )  # fmt: skip
        value = dkim.fold(b" " + b"; ".join(name + b"=" + text for name, text in tags), len(b"DKIM-Signature:"))
        signed = dkim.select_headers(headers, _SIGNED)
        *fields, own = _RELAXED.canonicalize_headers([*signed, (b"DKIM-Signature", value)])
        text = b"".join(name + b":" + line for name, line in fields) + own[0] + b":" + own[1].rstrip()
        signature = b64encode(self._sign(text))
        lines = [signature[start : start + LINE] for start in range(0, len(signature), LINE)]
        return b"\r\n ".join((b"DKIM-Signature:" + value, *lines)) + b"\r\n" + content

    def _sign(self, text: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(text, PKCS1v15(), hashes.SHA256())
        return self._key.sign(sha256(text).digest())  # RFC 8463 section 3: of the digest


def read_key(path: Path) -> RSAPrivateKey | Ed25519PrivateKey:
    """Read a PEM file's private key.

    Raises:
        SigningKeyError: it holds none that DKIM can use.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = error.strerror if isinstance(error, OSError) else "it holds no unencrypted private key in PEM form"
        raise SigningKeyError(f"{path} can't be used: {what}") from error
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds another kind of key; DKIM takes RSA and Ed25519")
    if isinstance(key, RSAPrivateKey) and key.key_size < LEAST_RSA_BITS:
        raise SigningKeyError(f"{path} holds an RSA key of {key.key_size} bits; make one of 2048")
    return key


def _digest(body: bytes) -> bytes:
    return b64encode(sha256(body).digest())

"""Signing keys as values: reading and writing PEM, key ids, JWKs, fingerprints, new keys.

Which key signs when is the key set's business (`key_sets`, key-rotator); nothing here touches Redis.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

SigningAlg = Literal["RS256", "EdDSA"]
PrivateKey = RSAPrivateKey | Ed25519PrivateKey

SIGNING_ALGS: tuple[SigningAlg, ...] = get_args(SigningAlg)
RSA_SIZES = (2048, 3072, 4096, 8192)
MAX_PEM_LENGTH = 1_048_576

_SMALLEST_RSA, _LARGEST_RSA = 2048, 16384
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_READABLE_SECTIONS = ("PRIVATE KEY", "RSA PRIVATE KEY")


class UnreadableKeyError(ValueError):
    """A text is not a private key that can sign here; the message says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with all that follows from it; made by `from_private_key` and the functions below."""

    alg: SigningAlg
    kid: str
    private_pem: str = field(repr=False)
    public_jwk: Mapping[str, str] = field(repr=False, compare=False)
    private_key: PrivateKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class UnreadableBlock:
    """A PEM block that gave no key: its position among the blocks (from 1), its section, and why."""

    position: int
    section: str
    reason: str


def parse_pem(text: str) -> list[SigningKey | UnreadableBlock]:
    """Read every PEM block of a text, in order; what stands between blocks is ignored.

    Reads `PRIVATE KEY` (PKCS#8: Ed25519 or RSA) and `RSA PRIVATE KEY` (PKCS#1). Never raises.
    """
    if len(text) > MAX_PEM_LENGTH:
        return [UnreadableBlock(1, "", f"the text is longer than {MAX_PEM_LENGTH} characters")]
    blocks: list[SigningKey | UnreadableBlock] = []
    end = 0
    while begin := _BEGIN.search(text, end):
        section, position = begin[1], len(blocks) + 1
        footer = f"-----END {section}-----"
        following = _BEGIN.search(text, begin.end())
        limit = following.start() if following else len(text)
        footer_at = text.find(footer, begin.end(), limit)
        if footer_at < 0:
            blocks.append(UnreadableBlock(position, section, f"the line {footer} is missing"))
            end = limit
            continue
        end = footer_at + len(footer)
        blocks.append(_read_block(position, section, text[begin.start() : end]))
    return blocks


def load_pem(text: str) -> SigningKey:
    """Read a text that holds exactly one private key.

    Raises:
        UnreadableKeyError: there is no key, more than one, or one that cannot be used.
    """
    blocks = parse_pem(text)
    if len(blocks) != 1:
        raise UnreadableKeyError(f"expected one PEM block, found {len(blocks)}")
    if isinstance(blocks[0], UnreadableBlock):
        raise UnreadableKeyError(blocks[0].reason)
    return blocks[0]


def generate(alg: SigningAlg, rsa_bits: int = 2048) -> SigningKey:
    """Make a new key. RSA takes from 0.1 s (2048 bits) to many seconds (8192): not for an event loop."""
    if alg == "EdDSA":
        return from_private_key(Ed25519PrivateKey.generate())
    if rsa_bits not in RSA_SIZES:
        raise ValueError(f"an RSA key of {rsa_bits} bits is not offered, use one of {RSA_SIZES}")
    return from_private_key(generate_private_key(public_exponent=65537, key_size=rsa_bits))


def from_private_key(private_key: PrivateKey) -> SigningKey:
    """Derive key id, JWK and PEM. The kid is the one that relying parties of older brokers have cached."""
    jwk = _ed25519_jwk(private_key) if isinstance(private_key, Ed25519PrivateKey) else _rsa_jwk(private_key)
    return SigningKey(
        alg="EdDSA" if isinstance(private_key, Ed25519PrivateKey) else "RS256",
        kid=jwk["kid"],
        private_pem=to_pem(private_key),
        public_jwk=MappingProxyType(jwk),
        private_key=private_key,
    )


def to_pem(private_key: PrivateKey) -> str:
    """Write a key as an unencrypted PKCS#8 block of 64 columns, ending in a newline."""
    return _pkcs8(private_key, serialization.Encoding.PEM).decode("ascii")


def fingerprint(key: SigningKey) -> str:
    """`SHA256:` and the base64 of the SHA-256 of the key's PKCS#8 DER, for people to compare keys by."""
    der = _pkcs8(key.private_key, serialization.Encoding.DER)
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode("ascii")


def _read_block(position: int, section: str, block: str) -> SigningKey | UnreadableBlock:
    try:
        return from_private_key(_load_private_key(section, block))
    except UnreadableKeyError as error:
        return UnreadableBlock(position, section, str(error))


def _load_private_key(section: str, block: str) -> PrivateKey:
    if section not in _READABLE_SECTIONS:
        raise UnreadableKeyError(f"a section {section} is not a private key; export it as unencrypted PKCS#8 or PKCS#1")
    try:
        private_key = serialization.load_pem_private_key(block.encode(), password=None)
    except TypeError:
        raise UnreadableKeyError("the key is encrypted; decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnreadableKeyError("the block is damaged or holds no key of a known kind") from None
    if isinstance(private_key, Ed25519PrivateKey):
        return private_key
    if not isinstance(private_key, RSAPrivateKey):
        raise UnreadableKeyError("only RSA and Ed25519 keys can sign here")
    if not _SMALLEST_RSA <= private_key.key_size <= _LARGEST_RSA:
        bits = private_key.key_size
        raise UnreadableKeyError(f"an RSA key of {bits} bits: {_SMALLEST_RSA} to {_LARGEST_RSA} are needed")
    return private_key


def _rsa_jwk(private_key: RSAPrivateKey) -> dict[str, str]:
    numbers = private_key.public_key().public_numbers()
    n, e = _big_endian(numbers.n), _big_endian(numbers.e)
    kid = _base64url(hashlib.sha256(n + b"." + e).digest())
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": _base64url(n), "e": _base64url(e)}


def _ed25519_jwk(private_key: Ed25519PrivateKey) -> dict[str, str]:
    x = private_key.public_key().public_bytes_raw()
    kid = _base64url(hashlib.sha256(b"ed25519." + x).digest())
    return {"kty": "OKP", "alg": "EdDSA", "crv": "Ed25519", "use": "sig", "kid": kid, "x": _base64url(x)}


def _pkcs8(private_key: PrivateKey, encoding: serialization.Encoding) -> bytes:
    return private_key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _big_endian(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")

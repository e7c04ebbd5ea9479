import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_store.signing_keys import (
    MAX_PEM_LENGTH,
    SigningKey,
    UnreadableBlock,
    UnreadableKeyError,
    fingerprint,
    from_private_key,
    generate,
    load_pem,
    parse_pem,
)

# RFC 8037 appendix A.1
RFC_SEED = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


@pytest.fixture(scope="module")
def rsa_key() -> SigningKey:
    return generate("RS256")


@pytest.fixture(scope="module")
def ed_key() -> SigningKey:
    return from_private_key(Ed25519PrivateKey.from_private_bytes(RFC_SEED))


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _pkcs1(key: SigningKey) -> str:
    return key.private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def test_ed25519_jwk_and_kid_follow_the_contract(ed_key: SigningKey) -> None:
    digest = hashlib.sha256(b"ed25519." + _unpadded(RFC_X)).digest()
    assert ed_key.public_jwk == {
        "kty": "OKP",
        "alg": "EdDSA",
        "crv": "Ed25519",
        "use": "sig",
        "kid": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "x": RFC_X,
    }
    assert ed_key.alg == "EdDSA"
    assert ed_key.kid == ed_key.public_jwk["kid"]
    assert json.dumps(dict(ed_key.public_jwk))


def test_rsa_jwk_and_kid_follow_the_contract(rsa_key: SigningKey) -> None:
    n, e = _unpadded(rsa_key.public_jwk["n"]), _unpadded(rsa_key.public_jwk["e"])
    assert n[0] != 0
    assert e == b"\x01\x00\x01"
    assert rsa_key.kid == base64.urlsafe_b64encode(hashlib.sha256(n + b"." + e).digest()).decode().rstrip("=")
    assert list(rsa_key.public_jwk) == ["kty", "alg", "use", "kid", "n", "e"]


def test_pem_written_is_pkcs8_in_64_columns_and_reads_back(rsa_key: SigningKey, ed_key: SigningKey) -> None:
    for key in (rsa_key, ed_key):
        assert key.private_pem.startswith("-----BEGIN PRIVATE KEY-----\n")
        assert max(map(len, key.private_pem.splitlines())) <= 64
        assert load_pem(key.private_pem) == key


def test_pkcs1_gives_the_same_key_and_fingerprint(rsa_key: SigningKey) -> None:
    key = load_pem(_pkcs1(rsa_key))
    assert key == rsa_key
    assert fingerprint(key) == fingerprint(rsa_key)


def test_fingerprint_is_the_digest_of_the_der(ed_key: SigningKey) -> None:
    der = base64.b64decode("".join(ed_key.private_pem.splitlines()[1:-1]))
    assert fingerprint(ed_key) == "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def test_several_blocks_are_read_in_order_and_text_between_is_ignored(rsa_key: SigningKey, ed_key: SigningKey) -> None:
    text = f"# first\r\n{ed_key.private_pem}\nsome words\n{_pkcs1(rsa_key)}trailing"
    assert parse_pem(text) == [ed_key, rsa_key]
    assert parse_pem(text.replace("\n", "\r\n")) == [ed_key, rsa_key]


def test_other_sections_are_reported_by_name_and_position(ed_key: SigningKey) -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    first, second, third = parse_pem(certificate + ed_key.private_pem + certificate)
    assert isinstance(first, UnreadableBlock)
    assert (first.position, first.section) == (1, "CERTIFICATE")
    assert "CERTIFICATE" in first.reason
    assert second == ed_key
    assert isinstance(third, UnreadableBlock)
    assert third.position == 3


def test_a_block_without_end_does_not_swallow_the_next(ed_key: SigningKey) -> None:
    broken = ed_key.private_pem.split("-----END")[0]
    first, second = parse_pem(broken + ed_key.private_pem)
    assert isinstance(first, UnreadableBlock)
    assert "missing" in first.reason
    assert second == ed_key


def _other_pem(private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    layout = serialization.PrivateFormat.PKCS8
    if password:
        protection = serialization.BestAvailableEncryption(password)
        layout = serialization.PrivateFormat.TraditionalOpenSSL
    return private_key.private_bytes(serialization.Encoding.PEM, layout, protection).decode()


def test_keys_that_cannot_sign_here_are_refused_with_the_reason(rsa_key: SigningKey) -> None:
    assert isinstance(rsa_key.private_key, rsa.RSAPrivateKey)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    cases = {
        "only RSA and Ed25519": _other_pem(ec.generate_private_key(ec.SECP256R1())),
        "1024 bits": _other_pem(small),
        "encrypted": _other_pem(rsa_key.private_key, b"secret"),
        "damaged": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
        "found 0": "no key here",
        "found 2": rsa_key.private_pem * 2,
        "longer": "x" * (MAX_PEM_LENGTH + 1),
    }
    for reason, text in cases.items():
        with pytest.raises(UnreadableKeyError, match=reason):
            load_pem(text)


def test_the_private_key_stays_out_of_repr(ed_key: SigningKey) -> None:
    assert "PRIVATE" not in repr(ed_key)


def test_generate_offers_only_the_documented_sizes() -> None:
    assert generate("EdDSA").alg == "EdDSA"
    with pytest.raises(ValueError, match="1024"):
        generate("RS256", 1024)


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_reports_and_no_exception(text: str) -> None:
    for junk in (text, f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----"):
        assert all(isinstance(block, UnreadableBlock) for block in parse_pem(junk))

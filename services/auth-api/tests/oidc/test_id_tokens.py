import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256, sha512

import jwt
import pytest

from auth_api.addresses import parse_address
from auth_api.oidc.id_tokens import Proof, make_id_token
from auth_api.oidc.keys import jwk_set, manual_keys
from auth_api.oidc.origins import parse_origin
from shared_store.signing_keys import SigningKey, generate

ISSUER = "https://broker.example"
PROOF = Proof(parse_origin("https://rp.example"), parse_address("BJÖRN@göteborg.test"), "n-0S6", 1_795_000_000)


@pytest.fixture(scope="module")
def rsa_key() -> SigningKey:
    return generate("RS256")


@pytest.fixture(scope="module")
def ed_key() -> SigningKey:
    return generate("EdDSA")


def test_claims_are_those_of_the_contract(rsa_key: SigningKey) -> None:
    token = make_id_token(PROOF, key=rsa_key, issuer=ISSUER, issued_at=1_795_000_010, lifetime=600)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {
        "iss": ISSUER,
        "sub": "björn@xn--gteborg-90a.test",
        "aud": "https://rp.example",
        "exp": 1_795_000_610,
        "iat": 1_795_000_010,
        "nonce": "n-0S6",
        "auth_time": 1_795_000_000,
        "email": "björn@xn--gteborg-90a.test",
        "email_verified": True,
        "email_original": "BJÖRN@göteborg.test",
    }


def test_absent_nonce_is_left_out_and_not_null(ed_key: SigningKey) -> None:
    proof = Proof(PROOF.audience, PROOF.address, None, PROOF.auth_time)
    token = make_id_token(proof, key=ed_key, issuer=ISSUER, issued_at=1, lifetime=600)
    assert "nonce" not in jwt.decode(token, options={"verify_signature": False})


def test_header_is_alg_kid_and_typ(rsa_key: SigningKey, ed_key: SigningKey) -> None:
    for key in (rsa_key, ed_key):
        token = make_id_token(PROOF, key=key, issuer=ISSUER, issued_at=1, lifetime=600)
        header = json.loads(urlsafe_b64decode(token.split(".")[0] + "=="))
        assert header == {"alg": key.alg, "kid": key.kid, "typ": "JWT"}


def test_published_key_verifies_the_token(rsa_key: SigningKey, ed_key: SigningKey) -> None:
    published = jwt.PyJWKSet.from_dict(jwk_set({"RS256": [rsa_key], "EdDSA": [ed_key]}))
    now = int(time.time())
    for key in (rsa_key, ed_key):
        token = make_id_token(PROOF, key=key, issuer=ISSUER, issued_at=now, lifetime=600)
        claims = jwt.decode(
            token, published[key.kid].key, algorithms=[key.alg], audience="https://rp.example", issuer=ISSUER
        )
        assert claims["nonce"] == "n-0S6"


def test_at_hash_is_half_the_digest_of_the_algorithm(rsa_key: SigningKey, ed_key: SigningKey) -> None:
    for key, half in ((rsa_key, sha256(b"opaque").digest()[:16]), (ed_key, sha512(b"opaque").digest()[:32])):
        token = make_id_token(PROOF, key=key, issuer=ISSUER, issued_at=1, lifetime=600, access_token="opaque")
        at_hash = jwt.decode(token, options={"verify_signature": False})["at_hash"]
        assert at_hash == urlsafe_b64encode(half).decode().rstrip("=")


def test_key_set_begins_with_rs256s_signing_key_and_holds_nothing_private(
    rsa_key: SigningKey, ed_key: SigningKey
) -> None:
    other = generate("EdDSA")
    published = jwk_set({"EdDSA": [ed_key, other, ed_key], "RS256": [rsa_key]})["keys"]
    assert [jwk["kid"] for jwk in published] == [rsa_key.kid, ed_key.kid, other.kid]
    assert [set(jwk) for jwk in published] == [
        {"kty", "alg", "use", "kid", "n", "e"},
        {"kty", "alg", "use", "kid", "crv", "x"},
        {"kty", "alg", "use", "kid", "crv", "x"},
    ]


def test_of_manual_keys_the_last_of_an_algorithm_signs(rsa_key: SigningKey, ed_key: SigningKey) -> None:
    older = generate("EdDSA")
    assert manual_keys([older, rsa_key, ed_key]) == {"RS256": (rsa_key,), "EdDSA": (ed_key, older)}
    assert manual_keys([rsa_key]) == {"RS256": (rsa_key,)}
    assert manual_keys([]) == {}

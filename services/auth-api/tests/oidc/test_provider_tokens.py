import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from hmac import digest

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.addresses import parse_address
from auth_api.errors import ProviderTokenError
from auth_api.oidc.provider_tokens import ProviderExpectation, verify_provider_token
from shared_store.signing_keys import SigningAlg, SigningKey, from_private_key, generate

NOW = 1_795_000_000
RS256: tuple[SigningAlg, ...] = ("RS256",)
EDDSA: tuple[SigningAlg, ...] = ("EdDSA",)
EXPECTED = ProviderExpectation(
    issuer="https://idp.example",
    audience="https://broker.example",
    nonce="the-nonce",
    algs=RS256,
    address=parse_address("Foo@Example.com"),
)
CLAIMS: dict[str, object] = {
    "iss": "https://idp.example",
    "aud": "https://broker.example",
    "nonce": "the-nonce",
    "exp": NOW + 60,
    "iat": NOW - 5,
    "email": "foo@example.com",
    "email_original": "foo@example.com",
}
KEY = generate("RS256")
JWK: dict[str, object] = dict(KEY.public_jwk)
ED_KEY = generate("EdDSA")
GOOGLE = replace(EXPECTED, address=parse_address("First.Last@googlemail.com"), google=True)


def _token(claims: Mapping[str, object] = CLAIMS, key: SigningKey = KEY, **header: object) -> str:
    return jwt.encode(dict(claims), key.private_key, algorithm=key.alg, headers={"kid": key.kid, **header})


def _verify(
    token: str, keys: Sequence[Mapping[str, object]] = (JWK,), expected: ProviderExpectation = EXPECTED
) -> None:
    verify_provider_token(token, keys=keys, expected=expected, now=NOW)


def _refused(problem: str, token: str, **options: object) -> None:
    with pytest.raises(ProviderTokenError, match=problem):
        _verify(token, **options)  # type: ignore[arg-type]


def _signed(payload: bytes) -> str:
    return jwt.PyJWS().encode(payload, KEY.private_key, algorithm="RS256", headers={"kid": KEY.kid})


def _segments(header: object, payload: object, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def test_a_good_token_is_believed() -> None:
    _verify(_token())
    _verify(_token({name: value for name, value in CLAIMS.items() if name != "email_original"}))


def test_an_ed25519_token_is_believed_where_asked_for() -> None:
    token = _token(key=ED_KEY)
    _verify(token, [ED_KEY.public_jwk, JWK], replace(EXPECTED, algs=EDDSA))
    _refused("alg is not", token, keys=[ED_KEY.public_jwk])


def test_alg_none_is_refused() -> None:
    for alg in ("none", "None", "", None):
        _refused("alg is not|malformed", _segments({"alg": alg, "kid": KEY.kid}, CLAIMS))


def test_hmac_with_the_public_key_is_refused() -> None:
    pem = KEY.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    unsigned = _segments({"alg": "HS256", "kid": KEY.kid}, CLAIMS).rpartition(".")[0]
    mac = urlsafe_b64encode(digest(pem, unsigned.encode(), sha256)).decode().rstrip("=")
    _refused("alg is not", f"{unsigned}.{mac}")


def test_kid_must_name_one_signing_key_of_the_algorithm() -> None:
    _refused("names 0", _token(), keys=[])
    _refused("names 0", _token(kid="other"))
    _refused("names 2", _token(), keys=[JWK, JWK])
    _refused("names 0", _token(), keys=[{**JWK, "use": "enc"}])
    _refused("names 0", _token(), keys=[{**JWK, "alg": "RS512"}])
    _verify(_token(), [{**JWK, "use": "enc"}, JWK])
    _refused("kid is missing", jwt.encode(CLAIMS, KEY.private_key, algorithm="RS256"))


def test_key_of_another_type_or_size_is_refused() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for bad in (
        {"kty": "OKP"},
        {"kty": "oct", "k": "AAAA"},
        {"n": from_private_key(small).public_jwk["n"]},
        {"n": "A" * 2000},
        {"n": 5},
        {"n": "é"},
        {"e": ""},
        {"e": "AQAB" * 20},
    ):
        _refused("key", _token(), keys=[{**JWK, **bad}])
    ed = {**ED_KEY.public_jwk, "crv": "Ed448"}
    _refused("type or size", _token(key=ED_KEY), keys=[ed], expected=replace(EXPECTED, algs=EDDSA))


def test_signature_of_another_key_is_refused() -> None:
    _refused("signature", _token(key=generate("RS256"), kid=KEY.kid))
    token = _token()
    _refused("signature", token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB"))
    header, _, signature = token.split(".")
    _refused("signature", ".".join([header, _token({**CLAIMS, "email": "x@y.example"}).split(".")[1], signature]))


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": "https://idp.example/"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "https://evil.example"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["https://evil.example"]}, "aud"),
        ({"aud": ["https://broker.example", "https://evil.example"]}, "aud"),
        ({"aud": ["https://broker.example", "https://evil.example"], "azp": "https://evil.example"}, "aud"),
        ({"azp": "https://evil.example"}, "azp"),
        ({"nonce": "other"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": ["the-nonce"]}, "nonce"),
        ({"nonce": "é"}, "nonce"),
        ({"nonce": "\ud800"}, "nonce"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": None}, "exp is no time"),
        ({"exp": str(NOW + 60)}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": 10**400}, "exp is no time"),
        ({"iat": NOW + 31}, "iat lies in the future"),
        ({"iat": None}, "iat is no time"),
        ({"iat": [NOW]}, "iat is no time"),
        ({"email": "bar@example.com"}, "email is not"),
        ({"email": "Foo@Example.com"}, "email is not"),
        ({"email": None}, "email is not"),
        ({"email": ["foo@example.com"]}, "email is not"),
        ({"email_original": "bar@example.com"}, "email_original is not"),
        ({"email_original": None}, "email_original is not"),
        ({"email_verified": False}, "not verified"),
        ({"email_verified": "false"}, "not verified"),
    ],
)
def test_a_claim_that_is_wrong_is_named(claims: dict[str, object], problem: str) -> None:
    _refused(problem, _signed(json.dumps({**CLAIMS, **claims}).encode()))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["https://broker.example"]},
        {"aud": ["https://other.example", "https://broker.example"], "azp": "https://broker.example"},
        {"azp": "https://broker.example"},
        {"exp": NOW - 29},
        {"iat": NOW + 30},
        {"exp": NOW + 60.5},
        {"email_verified": True},
        {"unknown": {"a": [1]}},
    ],
)
def test_a_claim_at_the_edge_of_what_is_allowed_is_believed(claims: dict[str, object]) -> None:
    _verify(_signed(json.dumps({**CLAIMS, **claims}).encode()))


def test_google_may_spell_the_account_otherwise() -> None:
    unspelt = {name: value for name, value in CLAIMS.items() if name != "email_original"}
    _verify(_token({**unspelt, "email": "firstlast@gmail.com"}), expected=GOOGLE)
    _verify(_token({**unspelt, "email": "FirstLast+x@gmail.com"}), expected=GOOGLE)
    for other in ("first@gmail.com", "firstlast@example.com", "nobody", ""):
        _refused("email is not", _token({**unspelt, "email": other}), expected=GOOGLE)
    _refused(
        "not verified",
        _token({**unspelt, "email": "firstlast@gmail.com", "email_verified": False}),
        expected=GOOGLE,
    )


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"5", b"\xff", b'{"iss"', b'{"exp":NaN}', b'{"exp":Infinity}', b"[" * 8000, b"9" * 6000],
    ids=lambda payload: ascii(payload[:12]),
)
def test_a_signed_payload_that_is_no_claims_is_refused(payload: bytes) -> None:
    _refused("claims", _signed(payload))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        "\ud800",
        "\0",
        _token() + ".x",
        _segments([], {}),
        _segments({"alg": "RS256", "kid": 5}, CLAIMS),
        _segments({"alg": ["RS256"], "kid": KEY.kid}, CLAIMS),
        _segments({"alg": "RS256", "kid": KEY.kid, "crit": ["x"], "x": 1}, CLAIMS),
        _segments({"alg": "RS256", "kid": KEY.kid, "b64": False, "crit": ["b64"]}, CLAIMS),
        urlsafe_b64encode(b"[" * 9000).decode() + ".e30.e30",
    ],
    ids=range(15),
)
def test_a_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(ProviderTokenError):
        _verify(token)


def test_a_huge_token_is_refused_unread() -> None:
    _refused("longer than", "x" * 10_000_000)
    _refused("longer than", _token({**CLAIMS, "padding": "x" * 20_000}))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(CLAIMS)), JSON)
def test_any_value_of_a_claim_is_judged_without_a_crash(name: str, value: object) -> None:
    try:
        _verify(_signed(json.dumps({**CLAIMS, name: value}).encode()))
    except ProviderTokenError:
        return


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["kty", "n", "e", "crv", "x"]), JSON), JSON, JSON)
def test_any_key_and_header_are_judged_without_a_crash(jwk: dict[str, object], kid: object, extra: object) -> None:
    header = {"alg": "RS256", "kid": kid, "crit": extra}
    for token in (_token(), _segments(header, CLAIMS)):
        for keys in ([{**JWK, **jwk}], [{**JWK, "kid": kid}]):
            try:
                _verify(token, keys)
            except ProviderTokenError:
                continue

from base64 import b64encode
from dataclasses import replace
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.addresses import parse_address
from auth_api.errors import CorruptRecordError, OAuthError
from auth_api.oidc.id_tokens import Proof
from auth_api.oidc.origins import parse_redirect_uri
from auth_api.oidc.token_request import Grant, TokenRequest, parse_token_request, redeem

FORM = {
    "grant_type": "authorization_code",
    "code": "SplxlOBeZQQYbYS6WxSbIA",
    "redirect_uri": "https://rp.example/cb",
}
# RFC 7636 appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

REDIRECT_URI = parse_redirect_uri("https://rp.example/cb")
GRANT = Grant(
    proof=Proof(REDIRECT_URI.origin, parse_address("Foo@Example.com"), "n-0S6", 1_795_000_000),
    redirect_uri=REDIRECT_URI,
    signing_alg="RS256",
    code_challenge=None,
)
PKCE_GRANT = replace(GRANT, code_challenge=CHALLENGE)


def _parse(*extra: tuple[str, str], basic: str | None = None, **changed: str) -> TokenRequest:
    header = None if basic is None else "Basic " + b64encode(basic.encode()).decode()
    return parse_token_request([*{**FORM, **changed}.items(), *extra], header)


def _refused(error: str, *extra: tuple[str, str], **changed: str) -> str:
    with pytest.raises(OAuthError) as caught:
        _parse(*extra, **changed)
    assert (caught.value.error, caught.value.status) == (error, 400)
    return caught.value.description


def test_a_plain_request_is_read() -> None:
    assert _parse() == TokenRequest(FORM["code"], FORM["redirect_uri"], None, None)


def test_missing_and_doubled_parameters_are_told() -> None:
    for name in FORM:
        assert _refused("invalid_request", **{name: ""}) == f"missing request parameter {name}"
    for name in (*FORM, "client_id", "client_secret", "code_verifier"):
        description = _refused("invalid_request", (name, "x"), (name, "x"))
        assert description == f"the request parameter {name} came more than once"
    assert _parse(("resource", "a"), ("resource", "b"))


def test_other_grants_are_unsupported() -> None:
    for grant_type in ("refresh_token", "password", "client_credentials", "Authorization_code"):
        _refused("unsupported_grant_type", grant_type=grant_type)


def test_oversized_parameters_are_refused() -> None:
    for name in (*FORM, "client_id", "client_secret", "code_verifier"):
        assert "too long" in _refused("invalid_request", **{name: "x" * 5000})


def test_verifier_stands_in_for_the_redirect_uri() -> None:
    assert _parse(redirect_uri="", code_verifier=VERIFIER).redirect_uri is None


@pytest.mark.parametrize(
    ("credentials", "client_id"),
    [
        (quote_plus("https://rp.example") + ":secret", "https://rp.example"),
        (quote_plus("https://rp.example:8443") + ":" + quote_plus("s:e c"), "https://rp.example:8443"),
        ("https%3A//rp.example:", "https://rp.example"),
        ("https://rp.example:secret", "https://rp.example"),
        ("https://rp.example:", "https://rp.example"),
        ("https://rp.example:8443:secret", "https://rp.example:8443"),
        ("https://rp.example:8443:", "https://rp.example:8443"),
        ("https://rp.example:se:cr:et", "https://rp.example"),
        ("http://[::1]:3000:secret", "http://[::1]:3000"),
        ("http://[::1]:secret", "http://[::1]"),
        ("https://rp.example/:secret", "https://rp.example/"),
        ("https://:x", "https://"),
        (":secret", None),
        ("other client:secret", "other client"),
        ("other+client:secret", "other client"),
    ],
)
def test_basic_credentials_are_read_in_both_spellings(credentials: str, client_id: str | None) -> None:
    assert _parse(basic=credentials).client_id == client_id


def test_secrets_are_accepted_everywhere_and_ignored() -> None:
    assert _parse(client_id="https://rp.example", client_secret="anything").client_id == "https://rp.example"
    assert _parse(basic="https://rp.example:x", client_id="https://rp.example", client_secret="y")


@pytest.mark.parametrize("secret", [b"\xfc", "ü".encode(), b"\xff\x00"])
def test_secret_may_have_any_encoding(secret: bytes) -> None:
    header = "Basic " + b64encode(b"https://rp.example:" + secret).decode()
    assert parse_token_request(list(FORM.items()), header).client_id == "https://rp.example"


def test_two_different_clients_in_one_request_are_refused() -> None:
    assert "differs" in _refused("invalid_request", basic="https://rp.example:x", client_id="https://b.example")


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic ="])
def test_unreadable_basic_credentials_are_told(header: str) -> None:
    with pytest.raises(OAuthError, match="Authorization header"):
        parse_token_request(list(FORM.items()), header)


def test_header_without_credentials_or_too_long_is_told_and_other_schemes_are_ignored() -> None:
    for header in ("Basic " + b64encode(b"user").decode(), "Basic " + "A" * 10_000):
        with pytest.raises(OAuthError, match="Authorization header"):
            parse_token_request(list(FORM.items()), header)
    for header in ("Bearer x", "", "Digest username=x"):
        assert parse_token_request(list(FORM.items()), header).client_id is None


def test_the_clients_own_code_is_redeemed() -> None:
    redeem(GRANT, _parse())
    redeem(GRANT, _parse(client_id="https://rp.example"))
    redeem(PKCE_GRANT, _parse(code_verifier=VERIFIER))
    redeem(PKCE_GRANT, _parse(redirect_uri="", code_verifier=VERIFIER))
    redeem(PKCE_GRANT, _parse(redirect_uri="", client_id="https://rp.example", code_verifier=VERIFIER))


@pytest.mark.parametrize(
    ("grant", "changed", "text"),
    [
        (GRANT, {"client_id": "https://evil.example"}, "another client"),
        (GRANT, {"client_id": "https://rp.example/"}, "another client"),
        (PKCE_GRANT, {"client_id": "https://evil.example", "code_verifier": VERIFIER}, "another client"),
        (GRANT, {"redirect_uri": "https://rp.example/cb/"}, "redirect_uri is not"),
        (GRANT, {"redirect_uri": "https://RP.example/cb"}, "redirect_uri is not"),
        (PKCE_GRANT, {"redirect_uri": "x", "code_verifier": VERIFIER}, "redirect_uri is not"),
        (GRANT, {"code_verifier": VERIFIER}, "had no code_challenge"),
        (GRANT, {"code_verifier": VERIFIER, "redirect_uri": ""}, "had no code_challenge"),
        (PKCE_GRANT, {}, "code_verifier does not fit"),
        (PKCE_GRANT, {"code_verifier": VERIFIER[:-1] + "l"}, "code_verifier does not fit"),
        (PKCE_GRANT, {"code_verifier": CHALLENGE}, "code_verifier does not fit"),
        (PKCE_GRANT, {"code_verifier": "wrong"}, "code_verifier does not fit"),
        (PKCE_GRANT, {"code_verifier": "é" * 43}, "code_verifier does not fit"),
        (PKCE_GRANT, {"code_verifier": "a" * 129}, "code_verifier does not fit"),
        (replace(GRANT, code_challenge="é"), {"code_verifier": VERIFIER}, "code_verifier does not fit"),
    ],
)
def test_a_code_in_other_hands_is_an_invalid_grant(grant: Grant, changed: dict[str, str], text: str) -> None:
    with pytest.raises(OAuthError, match=text) as caught:
        redeem(grant, parse_token_request(list({**FORM, **changed}.items()), None))
    assert (caught.value.error, caught.value.status) == ("invalid_grant", 400)


def test_a_stored_grant_reads_back_as_it_was() -> None:
    for grant in (
        GRANT,
        PKCE_GRANT,
        replace(GRANT, proof=replace(GRANT.proof, nonce=None)),
        replace(GRANT, login="0123456789"),
    ):
        assert Grant.from_json(grant.to_json()) == grant


@pytest.mark.parametrize("stored", ["", "{}", '{"v":1}', '{"v":1,"redirect_uri":"x"}', b"\xff"])
def test_what_is_no_stored_grant_is_told_as_corrupt(stored: str | bytes) -> None:
    with pytest.raises(CorruptRecordError):
        Grant.from_json(stored)
    with pytest.raises(CorruptRecordError):
        Grant.from_json(GRANT.to_json().replace("1795000000", '"now"'))


NAMES = st.sampled_from([*FORM, "client_id", "client_secret", "code_verifier"])


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES | st.text(), st.text())), st.none() | st.text())
def test_any_form_and_header_give_a_request_or_a_protocol_error(
    form: list[tuple[str, str]], header: str | None
) -> None:
    for fields, authorization in ((form, header), ([*FORM.items(), *form], f"Basic {header}")):
        try:
            request = parse_token_request(fields, authorization)
            redeem(PKCE_GRANT, request)
        except OAuthError:
            continue


@settings(deadline=None)
@given(st.text())
def test_any_credentials_give_a_client_or_a_protocol_error(credentials: str) -> None:
    for text in (credentials, "https://" + credentials):
        try:
            parse_token_request(list(FORM.items()), "Basic " + b64encode(text.encode(errors="replace")).decode())
        except OAuthError:
            continue

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.errors import CorruptRecordError, OAuthError
from auth_api.oidc.authorization_request import (
    AuthorizationPolicy,
    AuthorizationRequest,
    parse_authorization_request,
)
from shared_store.signing_keys import SigningAlg

RS256_ALONE: tuple[SigningAlg, ...] = ("RS256",)
EDDSA_ALONE: tuple[SigningAlg, ...] = ("EdDSA",)
ANYONE = AuthorizationPolicy(allowed_origins=None, signing_algs=RS256_ALONE)
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
BASE = {
    "redirect_uri": "https://rp.example/cb",
    "client_id": "https://rp.example",
    "response_type": "id_token",
    "scope": "openid email",
    "nonce": "n-0S6",
    "login_hint": "Foo@Example.com",
}


def _parse(
    *extra: tuple[str, str],
    policy: AuthorizationPolicy = ANYONE,
    without: str = "",
    can_ask_for_address: bool = True,
    **changed: str,
) -> AuthorizationRequest:
    params = {name: value for name, value in {**BASE, **changed}.items() if name != without}
    return parse_authorization_request(
        [*params.items(), *extra], policy=policy, can_ask_for_address=can_ask_for_address
    )


def _refusal(*extra: tuple[str, str], **options: object) -> OAuthError:
    with pytest.raises(OAuthError) as caught:
        _parse(*extra, **options)  # type: ignore[arg-type]
    return caught.value


def test_a_plain_request_is_read() -> None:
    request = _parse()
    assert str(request.client_id) == "https://rp.example"
    assert str(request.address) == "foo@example.com"
    assert request.address is not None
    assert request.address.original == "Foo@Example.com"
    assert request.return_address.response_mode == "fragment"
    assert request.return_address.response_errors is True
    assert request.return_address.state is None
    assert request.signing_alg == "RS256"
    assert request.nonce == "n-0S6"


def test_code_defaults_to_query_and_needs_no_nonce() -> None:
    request = _parse(response_type="code", without="nonce")
    assert request.return_address.response_mode == "query"
    assert request.nonce is None
    assert _parse(response_type="code", nonce="").nonce is None


@pytest.mark.parametrize("mode", ["fragment", "query", "form_post"])
def test_every_response_mode_goes_with_both_types(mode: str) -> None:
    for response_type in ("code", "id_token"):
        request = _parse(response_type=response_type, response_mode=mode)
        assert request.return_address.response_mode == mode
    assert _parse(response_mode="").return_address.response_mode == "fragment"


ON_PAGE: list[tuple[dict[str, str], str]] = [
    ({"without": "redirect_uri"}, "missing request parameter redirect_uri"),
    ({"without": "client_id"}, "missing request parameter client_id"),
    ({"without": "response_type"}, "missing request parameter response_type"),
    ({"redirect_uri": ""}, "missing request parameter redirect_uri"),
    ({"response_errors": "maybe"}, "response_errors must be true or false"),
    ({"response_type": "token"}, "unsupported response_type, must be id_token or code"),
    ({"response_type": "code id_token"}, "unsupported response_type, must be id_token or code"),
    ({"response_mode": "jwt"}, "unsupported response_mode, must be fragment, form_post or query"),
    ({"redirect_uri": "https://rp.example/#x"}, "the redirect_uri is not usable: it must not have a fragment"),
    ({"client_id": "https://other.example"}, "the client_id must be the origin of the redirect_uri"),
    ({"client_id": "https://rp.example/"}, "the client_id must be the origin of the redirect_uri"),
]


@pytest.mark.parametrize(("changes", "text"), ON_PAGE)
def test_faults_before_the_redirect_uri_is_known_are_shown_here(changes: dict[str, str], text: str) -> None:
    refusal = _refusal(**changes)
    assert (refusal.error, refusal.description, refusal.status) == ("invalid_request", text, 400)
    assert refusal.return_address is None


def test_a_site_that_is_not_allowed_is_refused_here_before_anything_goes_there() -> None:
    policy = replace(ANYONE, allowed_origins=frozenset({"https://allowed.example"}))
    assert _refusal(policy=policy, scope="").return_address is None
    assert _parse(policy=replace(policy, allowed_origins={"https://rp.example"}))
    assert _refusal(policy=replace(policy, allowed_origins=frozenset())).return_address is None


BACK: list[tuple[dict[str, str], str, str]] = [
    ({"request": "x"}, "request_not_supported", "the request parameter request is not supported"),
    ({"request_uri": "x"}, "request_uri_not_supported", "the request parameter request_uri is not supported"),
    ({"registration": "{}"}, "registration_not_supported", "the request parameter registration is not supported"),
    ({"without": "nonce"}, "invalid_request", "missing request parameter nonce"),
    ({"nonce": ""}, "invalid_request", "missing request parameter nonce"),
    ({"without": "scope"}, "invalid_request", "unsupported scope, must contain 'openid'"),
    ({"scope": "email"}, "invalid_request", "unsupported scope, must contain 'openid'"),
    ({"scope": "openid,email"}, "invalid_request", "unsupported scope, must contain 'openid'"),
    (
        {"id_token_signing_alg": "EdDSA"},
        "invalid_request",
        "unsupported id_token_signing_alg, must be one of RS256",
    ),
    ({"id_token_signing_alg": "none"}, "invalid_request", "unsupported id_token_signing_alg, must be one of RS256"),
    ({"prompt": "none login"}, "invalid_request", "prompt must not mix none with other values"),
    (
        {"code_challenge": CHALLENGE},
        "invalid_request",
        "unsupported code_challenge_method, must be S256",
    ),
    (
        {"code_challenge": CHALLENGE, "code_challenge_method": "plain"},
        "invalid_request",
        "unsupported code_challenge_method, must be S256",
    ),
    ({"code_challenge_method": "S256"}, "invalid_request", "missing request parameter code_challenge"),
    (
        {"code_challenge": CHALLENGE + "=", "code_challenge_method": "S256"},
        "invalid_request",
        "code_challenge must be 43 characters of unpadded base64url",
    ),
    (
        {"login_hint": "foo"},
        "invalid_request",
        "login_hint is not a valid email address: the @ is missing",
    ),
    (
        {"prompt": "none", "login_hint": ""},
        "login_required",
        "without a login_hint the person has to be asked who they are",
    ),
]


@pytest.mark.parametrize(("changes", "error", "text"), BACK)
def test_faults_after_that_go_back_with_the_state(changes: dict[str, str], error: str, text: str) -> None:
    refusal = _refusal(**changes, state="s t&=")
    assert (refusal.error, refusal.description) == (error, text)
    assert refusal.return_address is not None
    assert refusal.return_address.state == "s t&="
    assert str(refusal.return_address.redirect_uri) == "https://rp.example/cb"


def test_of_several_faults_the_contracts_first_is_told() -> None:
    faults = {"login_hint": "foo", "id_token_signing_alg": "none", "scope": "x", "nonce": "", "request_uri": "x"}
    told = []
    for fixed in list(faults)[::-1]:
        told.append(_refusal(**faults).description)
        faults[fixed] = {**BASE, "id_token_signing_alg": "RS256", "request_uri": ""}[fixed]
    assert [text.split()[-1] for text in told] == ["supported", "nonce", "'openid'", "RS256", "missing"]


@pytest.mark.parametrize("name", ["redirect_uri", "client_id", "response_type", "response_mode", "response_errors"])
def test_doubled_parameter_of_the_return_address_is_shown_here(name: str) -> None:
    value = BASE.get(name, "query" if name == "response_mode" else "true")
    refusal = _refusal((name, value), (name, value))
    assert refusal.description == f"the request parameter {name} came more than once"
    assert refusal.return_address is None


@pytest.mark.parametrize(
    "name",
    ["scope", "nonce", "login_hint", "prompt", "ui_locales", "code_challenge", "display", "max_age", "acr_values"],
)
def test_other_doubled_parameter_goes_back(name: str) -> None:
    refusal = _refusal((name, "x"), (name, ""))
    assert refusal.description == f"the request parameter {name} came more than once"
    assert refusal.return_address is not None


def test_doubled_state_is_refused_and_neither_of_them_goes_back() -> None:
    refusal = _refusal(("state", "a"), ("state", "b"))
    assert refusal.description == "the request parameter state came more than once"
    assert refusal.return_address is not None
    assert refusal.return_address.state is None


def test_unknown_parameters_are_ignored_even_when_doubled() -> None:
    assert _parse(("resource", "a"), ("resource", "b"), ("max_age", "0"), ("display", "page"))


def test_empty_state_is_not_the_same_as_none() -> None:
    assert _parse(state="").return_address.state == ""
    assert _parse().return_address.state is None


@pytest.mark.parametrize(
    ("name", "limit"), [("state", 4096), ("nonce", 1024), ("scope", 1024), ("login_hint", 1024), ("prompt", 200)]
)
def test_oversized_parameter_is_refused_and_says_how_long_it_may_be(name: str, limit: int) -> None:
    for value in ("x" * (limit + 1), "é" * (limit // 2 + 1), "x" * 1_000_000):
        refusal = _refusal(**{name: value})
        assert f"{name} is too long, at most {limit} octets" in refusal.description
        assert refusal.return_address is not None
        assert refusal.return_address.state is None


def test_too_many_parameters_are_refused_here() -> None:
    assert _refusal(*[(f"p{i}", "x") for i in range(101)]).return_address is None


@pytest.mark.parametrize("junk", ["a\0b", "a\ud800b"])
def test_text_that_nobody_can_send_back_is_refused(junk: str) -> None:
    assert _refusal(state=junk).description == "the request parameter state is not usable text"
    assert _refusal(redirect_uri=junk).return_address is None


def test_without_login_hint_the_person_is_asked_unless_there_is_no_page() -> None:
    assert _parse(without="login_hint").address is None
    refusal = _refusal(login_hint="", can_ask_for_address=False, prompt="none")
    assert refusal.description == "login_hint is not a valid email address: the @ is missing"


def test_prompts_and_locales_are_read_as_lists() -> None:
    request = _parse(prompt="login  consent login", ui_locales="fr-CA en <script> " + "de " * 20)
    assert request.prompt == ("login", "consent")
    assert request.ui_locales[:3] == ("fr-CA", "en", "de")
    assert len(request.ui_locales) == 10


def test_eddsa_is_given_where_configured_and_asked_for() -> None:
    both = AuthorizationPolicy(None, EDDSA_ALONE + RS256_ALONE)
    assert _parse(policy=both).signing_alg == "RS256"
    assert _parse(policy=both, id_token_signing_alg="EdDSA").signing_alg == "EdDSA"
    refusal = _refusal(policy=AuthorizationPolicy(None, EDDSA_ALONE))
    assert refusal.description == "unsupported id_token_signing_alg, must be one of EdDSA"


def test_a_request_made_again_from_its_parameters_is_the_same_but_for_the_address() -> None:
    plain = _parse(state="")
    full = _parse(**PKCE, response_type="code", response_errors="false", prompt="login consent", ui_locales="nl")  # type: ignore[arg-type]
    for request in (plain, full):
        again = parse_authorization_request(list(request.parameters().items()), policy=ANYONE)
        assert again == replace(request, address=None)


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "state": st.text(max_size=2000),
        "nonce": st.text(min_size=1, max_size=100),
        "prompt": st.sampled_from(["login", "none", "login consent"]),
        "ui_locales": st.sampled_from(["en", "fr-CA nl"]),
        "response_type": st.sampled_from(["code", "id_token"]),
        "response_mode": st.sampled_from(["query", "fragment", "form_post"]),
        "response_errors": st.sampled_from(["true", "false"]),
        "login_hint": st.sampled_from(["", "BJÖRN@göteborg.test", '"a b"@example.com']),
    },
)


@settings(deadline=None)
@given(REQUESTS)
def test_a_stored_request_reads_back_as_it_was(changed: dict[str, str]) -> None:
    try:
        request = parse_authorization_request(list({**BASE, **PKCE, **changed}.items()), policy=ANYONE)
    except OAuthError:
        return
    stored = request.to_json()
    assert AuthorizationRequest.from_json(stored) == request
    assert AuthorizationRequest.from_json(stored.encode()) == request
    assert len(stored.encode()) < 12 * 1024


@pytest.mark.parametrize(
    "stored",
    ["", "x", "[]", "null", "1", '{"v":1}', '{"v":2}', "{}", "[" * 100_000, '{"v":1,"redirect_uri":[]}', b"\xff\xfe"],
)
def test_what_is_no_stored_request_is_told_as_corrupt(stored: str | bytes) -> None:
    with pytest.raises(CorruptRecordError):
        AuthorizationRequest.from_json(stored)


def test_stored_request_with_one_field_spoilt_is_told_as_corrupt() -> None:
    stored = _parse(state="s", prompt="login").to_json()
    for good, bad in [
        ('"state":"s"', '"state":5'),
        ('["login"]', '[["login"]]'),
        ('"fragment"', '"smoke"'),
        ("https://rp.example/cb", "javascript:x"),
        ("Foo@Example.com", "nobody"),
    ]:
        assert good in stored
        with pytest.raises(CorruptRecordError):
            AuthorizationRequest.from_json(stored.replace(good, bad))


NAMES = st.sampled_from([*BASE, *PKCE, "state", "response_mode", "request", "prompt"])
VALUES = st.one_of(st.text(), st.sampled_from([*BASE.values(), "code", "none", "S256", CHALLENGE, ""]))


def _failure(params: list[tuple[str, str]], *, ask: bool = True) -> OAuthError | None:
    try:
        parse_authorization_request(params, policy=ANYONE, can_ask_for_address=ask)
    except OAuthError as error:
        return error
    return None


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES | st.text(), VALUES)), st.booleans())
def test_any_parameters_give_a_request_or_a_protocol_error(params: list[tuple[str, str]], ask: bool) -> None:
    failure = _failure(params, ask=ask)
    assert failure is None or failure.status == 400


@settings(deadline=None)
@given(NAMES, VALUES)
def test_no_spoilt_parameter_sends_an_error_to_another_site(name: str, value: str) -> None:
    failure = _failure(list({**BASE, name: value}.items()))
    if failure is not None and failure.return_address is not None:
        assert str(failure.return_address.redirect_uri.origin) == "https://rp.example"

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.errors import OAuthError
from auth_api.oidc.origins import parse_redirect_uri
from auth_api.oidc.responses import (
    FormPost,
    Redirect,
    ResponseMode,
    ReturnAddress,
    authorization_response,
    error_response,
)

ISSUER = "https://broker.example"


def _to(
    mode: ResponseMode, uri: str = "https://rp.example/cb", state: str | None = None, errors: bool = True
) -> ReturnAddress:
    return ReturnAddress(parse_redirect_uri(uri), mode, errors, state)


@pytest.mark.parametrize(
    ("uri", "mode", "url"),
    [
        ("https://rp.example/cb", "query", "https://rp.example/cb?state=s%20%26&code=c&iss=https%3A%2F%2Fbroker.example"),
        ("https://rp.example", "query", "https://rp.example?state=s%20%26&code=c&iss=https%3A%2F%2Fbroker.example"),
        ("https://rp.example/?a=b", "query", "https://rp.example/?a=b&state=s%20%26&code=c&iss=https%3A%2F%2Fbroker.example"),
        ("https://rp.example/?", "query", "https://rp.example/?state=s%20%26&code=c&iss=https%3A%2F%2Fbroker.example"),
        ("https://rp.example/?a&", "query", "https://rp.example/?a&state=s%20%26&code=c&iss=https%3A%2F%2Fbroker.example"),
        ("https://rp.example/?a=b", "fragment", "https://rp.example/?a=b#state=s%20%26&code=c&iss=https%3A%2F%2Fbroker.example"),
    ],
)  # fmt: skip
def test_redirect_keeps_the_query_and_ends_in_iss(uri: str, mode: ResponseMode, url: str) -> None:
    assert authorization_response(_to(mode, uri, "s &"), [("code", "c")], issuer=ISSUER) == Redirect(url)


def test_form_post_keeps_order_and_raw_values() -> None:
    answer = authorization_response(_to("form_post", state='"<é'), [("id_token", "a.b.c")], issuer=ISSUER)
    assert answer == FormPost("https://rp.example/cb", (("state", '"<é'), ("id_token", "a.b.c"), ("iss", ISSUER)))


def test_state_goes_back_only_if_it_came_also_when_empty() -> None:
    assert "state" not in str(authorization_response(_to("query"), [("code", "c")], issuer=ISSUER))
    assert "?state=&code" in str(authorization_response(_to("query", state=""), [("code", "c")], issuer=ISSUER))


def test_error_goes_back_with_iss_and_a_description_in_the_rfcs_characters() -> None:
    error = OAuthError("invalid_request", 'say "é\\\n"', return_address=_to("query", state="s"))
    answer = error_response(error, issuer=ISSUER)
    assert isinstance(answer, Redirect)
    assert parse_qsl(urlsplit(answer.url).query) == [
        ("state", "s"),
        ("error", "invalid_request"),
        ("error_description", "say '''''"),
        ("iss", ISSUER),
    ]


def test_error_stays_here_without_return_address_or_where_the_site_wants_none() -> None:
    assert error_response(OAuthError("invalid_request", "x"), issuer=ISSUER) is None
    unwanted = OAuthError("invalid_request", "x", return_address=_to("query", errors=False))
    assert error_response(unwanted, issuer=ISSUER) is None


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(TEXT, TEXT, st.sampled_from(["query", "fragment"]))
def test_any_state_arrives_unchanged_and_breaks_no_header(state: str, value: str, mode: ResponseMode) -> None:
    answer = authorization_response(_to(mode, state=state), [("x", value)], issuer=ISSUER)
    assert isinstance(answer, Redirect)
    assert answer.url.isascii()
    assert answer.url.isprintable()
    assert " " not in answer.url
    parts = urlsplit(answer.url)
    received = parse_qsl(parts.query or parts.fragment, keep_blank_values=True)
    assert received == [("state", state), ("x", value), ("iss", ISSUER)]

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.errors import BearerError
from auth_api.oidc.bearer import bearer_token, invalid_token


def test_token_comes_from_the_header_or_the_form() -> None:
    assert bearer_token("Bearer abc.DEF-_~+/==") == "abc.DEF-_~+/=="
    assert bearer_token("bearer  abc ") == "abc"
    assert bearer_token(None, [("other", "x"), ("access_token", "abc")]) == "abc"


def _refusal(header: str | None, form: list[tuple[str, str]]) -> BearerError:
    with pytest.raises(BearerError) as caught:
        bearer_token(header, form)
    return caught.value


def test_without_a_token_the_challenge_has_no_error() -> None:
    for header in (None, "", "Basic abc", "Bear abc"):
        refusal = _refusal(header, [])
        assert refusal.status == 401
        assert refusal.www_authenticate == 'Bearer realm="userinfo"'


def test_more_than_one_token_is_a_bad_request() -> None:
    for header, form in (("Bearer a", [("access_token", "a")]), (None, [("access_token", "a")] * 2)):
        refusal = _refusal(header, form)
        assert (refusal.status, refusal.error) == (400, "invalid_request")
        assert 'error="invalid_request"' in refusal.www_authenticate


@pytest.mark.parametrize("token", ["", "a b", "é", "a\r\nb", '"', "=", "x" * 601, "x" * 100_000])
def test_what_cannot_be_a_token_is_an_invalid_one(token: str) -> None:
    refusal = _refusal(f"Bearer {token}", [])
    assert (refusal.status, refusal.error) == (401, "invalid_token")
    assert refusal.www_authenticate == invalid_token().www_authenticate


@settings(deadline=None)
@given(st.none() | st.text() | st.text().map("Bearer {}".format), st.lists(st.tuples(st.text(), st.text())))
def test_any_request_gives_a_token_or_a_refusal_fit_for_a_header(
    header: str | None, form: list[tuple[str, str]]
) -> None:
    try:
        assert bearer_token(header, form).isascii()
    except BearerError as refusal:
        challenge = refusal.www_authenticate
    else:
        return
    assert challenge.isprintable()

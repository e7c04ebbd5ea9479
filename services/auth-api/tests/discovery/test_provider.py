"""Providers' documents, read defensively."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auth_api.addresses import parse_address
from auth_api.discovery.provider import Configuration, Jwk, read_configuration, read_keys, signing_alg, write_keys
from auth_api.discovery.safe_http import json_object
from auth_api.discovery.webfinger import Link, read_links, usable_links, webfinger_url, write_links
from auth_api.errors import DiscoveryError
from shared_store.fetch_cache import LONGEST
from shared_store.signing_keys import generate

ORIGIN = "https://idp.example"
OWN = "https://broker.example"
PORTIER = "https://portier.io/specs/auth/1.0/idp"
GOOGLE = "https://portier.io/specs/auth/1.0/idp/google"
GOOD: dict[str, object] = {"authorization_endpoint": f"{ORIGIN}/auth?x=1", "jwks_uri": f"{ORIGIN}/keys"}
ED_JWK = dict(generate("EdDSA").public_jwk)
RS_JWK: dict[str, object] = {"kid": "1", "use": "sig", "alg": "RS256", "kty": "RSA", "n": "AA", "e": "AQAB"}

any_text = st.text() | st.text(st.characters(categories=["Cs", "L"]))  # JSON may have half a surrogate pair
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def configuration(**changes: object) -> Configuration:
    return read_configuration({**GOOD, **changes}, origin=ORIGIN)


def test_webfinger_url_is_the_contracts() -> None:
    assert webfinger_url(parse_address("Foo+bar&rel=x@Example.COM")) == (
        "https://example.com/.well-known/webfinger?resource=acct%3Afoo%2Bbar%26rel%3Dx%40example.com"
        "&rel=https%3A%2F%2Fportier.io%2Fspecs%2Fauth%2F1.0%2Fidp"
        "&rel=https%3A%2F%2Fportier.io%2Fspecs%2Fauth%2F1.0%2Fidp%2Fgoogle"
    )


def test_first_usable_link_counts() -> None:
    links = [
        "junk",
        {"rel": "self", "href": "https://a.example"},
        {"rel": PORTIER},
        {"rel": PORTIER, "href": 7},
        {"rel": PORTIER, "href": OWN},
        {"rel": PORTIER, "href": f"{OWN}/"},
        {"rel": PORTIER, "href": "https://idp.example/path"},
        {"rel": PORTIER, "href": "https://idp.example?query"},
        {"rel": PORTIER, "href": "https://user@idp.example"},
        {"rel": PORTIER, "href": "http://idp.example"},
        {"rel": PORTIER, "href": "https://127.0.0.1"},
        {"rel": PORTIER, "href": "https://good.example/"},
        {"rel": GOOGLE, "href": "https://accounts.google.com"},
    ]
    found = read_links({"links": links}, own_url=OWN)
    assert found == [Link("portier", "https://good.example"), Link("google", "https://accounts.google.com")]
    assert read_links(json_object(write_links(found)), own_url=OWN) == found[:1]
    assert read_links(json_object(write_links(found[1:])), own_url=OWN) == found[1:]
    assert read_links(json_object(write_links([])), own_url=OWN) == []


@given(json_values, json_values)
def test_no_jrd_makes_the_reader_do_anything_but_answer_or_refuse(links: object, rel: object) -> None:
    try:
        read_links({"links": links}, own_url=OWN)
    except DiscoveryError:
        assert not isinstance(links, list)
    assert usable_links([(rel, "https://a.example")], own_url=OWN) == []


def test_configuration_has_the_contracts_defaults() -> None:
    read = configuration()
    assert (read.form_post, read.algs, read.takes_alg) == (False, ("RS256",), False)
    assert read_configuration(json_object(read.to_json()), origin=ORIGIN) == read
    assert configuration(issuer=ORIGIN, response_modes_supported=["form_post"]).form_post


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://idp.example/auth"},
        {"authorization_endpoint": ["https://idp.example"]},
        {"jwks_uri": 5},
        {"jwks_uri": "https://127.0.0.1/keys"},
        {"jwks_uri": "https://metadata/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"response_modes_supported": ["query"]},
        {"response_modes_supported": []},
        {"response_modes_supported": "form_post"},
        {"id_token_signing_alg_values_supported": 1},
    ],
)
def test_configuration_that_cannot_be_used_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DiscoveryError):
        configuration(**changes)


@given(st.dictionaries(st.sampled_from([*GOOD, "issuer", "response_modes_supported"]), json_values))
def test_no_configuration_makes_the_reader_do_anything_but_answer_or_refuse(changes: dict[str, object]) -> None:
    with contextlib.suppress(DiscoveryError):
        assert configuration(**changes).jwks_uri.startswith("https://")


def test_keys_are_cut_down_to_signing_keys_and_what_is_used_of_them() -> None:
    others = [{"kid": "2", "use": "enc", "alg": "RS256"}, {"use": "sig", "alg": "RS256"}, {"kid": "3"}, 7, None]
    assert read_keys({"keys": [{**RS_JWK, "x5c": ["A" * 5000], "d": "secret"}, *others]}) == [RS_JWK]
    assert read_keys({"keys": [{**RS_JWK, "crv": "A" * 1400}, {**ED_JWK, "n": "A" * 1400}]}) == [RS_JWK, ED_JWK]


@pytest.mark.parametrize(
    "keys",
    [
        None,
        {},
        [],
        [{}],
        [{**RS_JWK, "n": "A" * 1401}],
        [{**RS_JWK, "e": 65537}],
        [RS_JWK] * 31,
        [{**RS_JWK, "n": "A" * 1400}] * 12,
        [{**RS_JWK, "kty": "EC"}],
        [{**RS_JWK, "kty": ["RSA"]}],
    ],
)
def test_key_set_that_cannot_be_used_is_refused(keys: object) -> None:
    with pytest.raises(DiscoveryError):
        read_keys({"keys": keys})


@given(
    st.lists(
        st.fixed_dictionaries(
            {"use": st.just("sig"), "alg": st.sampled_from(["RS256", "EdDSA"]), "kid": any_text},
            optional={"kty": st.sampled_from(["RSA", "OKP"]), "n": json_values, "e": any_text, "x": any_text},
        ),
        max_size=4,
    )
)
def test_key_set_that_was_read_is_kept_and_read_again_as_it_is(keys: list[dict[str, object]]) -> None:
    with contextlib.suppress(DiscoveryError):
        read = read_keys({"keys": keys})
        text = write_keys(read)
        assert len(text.encode()) < LONGEST
        assert read_keys(json_object(text)) == read


@given(any_text | json_values.map(json.dumps) | st.integers(1, 200_000).map(lambda depth: "[" * depth))
@example("")
@example('{"links": [[]], "keys": [[]]}')
@example('{"a": ' + "9" * 10_000 + "}")
def test_no_text_makes_the_readers_do_anything_but_answer_or_refuse(text: str) -> None:
    for read in (
        lambda document: read_links(document, own_url=OWN),
        lambda document: read_configuration(document, origin=ORIGIN),
        read_keys,
    ):
        with contextlib.suppress(DiscoveryError):
            read(json_object(text))


@given(json_values)
def test_no_key_set_makes_the_reader_do_anything_but_answer_or_refuse(keys: object) -> None:
    with pytest.raises(DiscoveryError):
        read_keys({"keys": keys})


@pytest.mark.parametrize(
    ("changes", "keys", "alg"),
    [
        ({"id_token_signing_alg_values_supported": ["RS256", "EdDSA"]}, [RS_JWK, ED_JWK], "EdDSA"),
        ({"id_token_signing_alg_values_supported": ["EdDSA"]}, [ED_JWK], "EdDSA"),
        ({"id_token_signing_alg_values_supported": ["RS256"]}, [RS_JWK, ED_JWK], "RS256"),
        ({"id_token_signing_alg_values_supported": ["RS256", "EdDSA"]}, [RS_JWK], "RS256"),
        (
            {"id_token_signing_alg_values_supported": ["RS256", "EdDSA"]},
            [RS_JWK, ED_JWK, {**ED_JWK, "crv": "Ed448"}],
            "RS256",
        ),
        ({}, [ED_JWK], None),
        ({"id_token_signing_alg_values_supported": ["EdDSA"]}, [RS_JWK], None),
    ],
)
def test_ed25519_is_asked_for_only_where_the_provider_can(
    changes: dict[str, object], keys: list[Jwk], alg: str | None
) -> None:
    read = configuration(accepts_id_token_signing_alg_query_param=True, **changes)
    if alg is None:
        with pytest.raises(DiscoveryError):
            signing_alg(read, keys)
    else:
        assert signing_alg(read, keys) == alg
    cautious = configuration(accepts_id_token_signing_alg_query_param="true", **changes)
    if alg == "EdDSA" and RS_JWK not in keys:
        with pytest.raises(DiscoveryError):
            signing_alg(cautious, keys)

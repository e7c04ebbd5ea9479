import json

from auth_api.oidc.discovery_document import discovery_document
from shared_store.signing_keys import SigningAlg


def _document(*signing_algs: SigningAlg) -> dict[str, object]:
    return discovery_document(
        issuer="https://broker.example",
        signing_algs=signing_algs,
        ui_locales=["en", "de"],
        service_documentation="https://broker.example/",
    )


def test_document_says_what_the_provider_does() -> None:
    assert json.loads(json.dumps(_document("EdDSA", "RS256"))) == {
        "issuer": "https://broker.example",
        "authorization_endpoint": "https://broker.example/auth",
        "token_endpoint": "https://broker.example/token",
        "userinfo_endpoint": "https://broker.example/userinfo",
        "jwks_uri": "https://broker.example/keys.json",
        "scopes_supported": ["openid", "email"],
        "response_types_supported": ["code", "id_token"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "implicit"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "EdDSA"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": [
            *("iss", "sub", "aud", "exp", "iat", "nonce", "auth_time", "at_hash"),
            *("email", "email_verified", "email_original"),
        ],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["en", "de"],
        "service_documentation": "https://broker.example/",
        "accepts_id_token_signing_alg_query_param": True,
    }


def test_only_configured_algorithms_are_offered() -> None:
    assert _document("EdDSA")["id_token_signing_alg_values_supported"] == ["EdDSA"]

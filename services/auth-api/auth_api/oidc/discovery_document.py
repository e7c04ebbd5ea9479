"""The provider's metadata (OpenID Connect Discovery 1.0 §3, RFC 8414, RFC 9207)."""

from collections.abc import Collection, Sequence

from shared_store.signing_keys import SIGNING_ALGS, SigningAlg

_CLAIMS = (
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nonce",
    "auth_time",
    "at_hash",
    "email",
    "email_verified",
    "email_original",
)


def discovery_document(
    *,
    issuer: str,
    signing_algs: Collection[SigningAlg],
    ui_locales: Sequence[str],
    service_documentation: str,
) -> dict[str, object]:
    """The document at `<issuer>/.well-known/openid-configuration`, to be written as JSON."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/auth",
        "token_endpoint": f"{issuer}/token",
        "userinfo_endpoint": f"{issuer}/userinfo",
        "jwks_uri": f"{issuer}/keys.json",
        "scopes_supported": ["openid", "email"],
        "response_types_supported": ["code", "id_token"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "implicit"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [alg for alg in SIGNING_ALGS if alg in signing_algs],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": list(_CLAIMS),
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": list(ui_locales),
        "service_documentation": service_documentation,
        "accepts_id_token_signing_alg_query_param": True,
    }

"""An identity provider's own documents: its configuration (OpenID Connect Discovery 1.0 section 4) and its keys.

Both are cut down to what is used before they are kept, so that nobody fills the cache with what is not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auth_api.discovery.safe_http import check_url
from auth_api.errors import DiscoveryError
from shared_store.signing_keys import SIGNING_ALGS, SigningAlg

CONFIGURATION_PATH = "/.well-known/openid-configuration"

MOST_KEYS = 30
# What one provider's keys may take of the cache, which holds logins as well: room for twenty of RSA with 4096 bits.
MOST_OCTETS = 16 * 1024
MOST_OCTETS_OF_A_FIELD = 1400
_USE = ("kid", "use", "alg", "kty")
_KEY_FIELDS = {"RSA": (*_USE, "n", "e"), "OKP": (*_USE, "crv", "x")}

Jwk = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is used of a provider's configuration."""

    authorization_endpoint: str
    jwks_uri: str
    form_post: bool
    algs: tuple[SigningAlg, ...]
    takes_alg: bool

    def to_json(self) -> str:
        """Write it as a provider would, for `read_configuration`."""
        return json.dumps(
            {
                "authorization_endpoint": self.authorization_endpoint,
                "jwks_uri": self.jwks_uri,
                "response_modes_supported": ["form_post" if self.form_post else "fragment"],
                "id_token_signing_alg_values_supported": self.algs,
                "accepts_id_token_signing_alg_query_param": self.takes_alg,
            }
        )


def read_configuration(document: Mapping[str, object], *, origin: str, development: bool = False) -> Configuration:
    """Read a provider's configuration, as it sends it or as `Configuration.to_json` writes it.

    Raises:
        DiscoveryError: it lacks something, or has something that can't be used.
    """
    if document.get("issuer", origin) not in (origin, f"{origin}/"):
        raise DiscoveryError("issuer is another provider")
    modes = _texts(document, "response_modes_supported", ("fragment",))
    if "form_post" not in modes and "fragment" not in modes:
        raise DiscoveryError("it supports neither form_post nor fragment")
    offered = _texts(document, "id_token_signing_alg_values_supported", ("RS256",))
    algs = tuple(alg for alg in SIGNING_ALGS if alg in offered)
    return Configuration(
        authorization_endpoint=_url(document, "authorization_endpoint", development=development),
        jwks_uri=_url(document, "jwks_uri", development=development),
        form_post="form_post" in modes,
        algs=algs,
        takes_alg=document.get("accepts_id_token_signing_alg_query_param") is True,
    )


def read_keys(document: Mapping[str, object]) -> list[dict[str, str]]:
    """Give a JWK set's signing keys (RFC 7517 section 5), each with the fields that are used: what `write_keys` takes.

    Raises:
        DiscoveryError: it is no JWK set, or has no signing key that can be used.
    """
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise DiscoveryError("keys is not a list")
    usable = [_cut_down(key) for key in keys if isinstance(key, dict) and _is_signing_key(key)]
    if not usable or len(usable) > MOST_KEYS or len(write_keys(usable)) > MOST_OCTETS:
        raise DiscoveryError(f"it has {len(usable)} signing keys that can be used")
    return usable


def write_keys(keys: Sequence[Jwk]) -> str:
    """Write keys as a JWK set, for `read_keys`."""
    return json.dumps({"keys": keys})


def signing_alg(configuration: Configuration, keys: Sequence[Jwk]) -> SigningAlg:
    """Choose the algorithm to expect: EdDSA where it can be asked for, else the default of the protocol.

    Raises:
        DiscoveryError: there is no key for it.
    """
    curves = [key.get("crv") for key in keys if key.get("alg") == "EdDSA"]
    if configuration.takes_alg and "EdDSA" in configuration.algs and curves and set(curves) == {"Ed25519"}:
        return "EdDSA"
    if "RS256" not in configuration.algs or not any(key.get("alg") == "RS256" for key in keys):
        raise DiscoveryError("it has no key for an algorithm that is understood here")
    return "RS256"


def _is_signing_key(key: Mapping[str, object]) -> bool:
    is_for_signing = key.get("use") == "sig" and key.get("alg") in SIGNING_ALGS and isinstance(key.get("kid"), str)
    return is_for_signing and str(key.get("kty")) in _KEY_FIELDS


def _cut_down(key: Mapping[str, object]) -> dict[str, str]:
    values = {name: key[name] for name in _KEY_FIELDS[str(key["kty"])] if name in key}
    short = {
        name: value
        for name, value in values.items()
        if isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) <= MOST_OCTETS_OF_A_FIELD
    }
    if len(short) < len(values):
        raise DiscoveryError("a key has a field that is too long or no text")
    return short


def _texts(document: Mapping[str, object], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    values = document.get(name, default)
    if not isinstance(values, list | tuple):
        raise DiscoveryError(f"{name} is not a list")
    return tuple(value for value in values if isinstance(value, str))


def _url(document: Mapping[str, object], name: str, *, development: bool) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise DiscoveryError(f"{name} is missing")
    try:
        check_url(value, development=development)
    except DiscoveryError as error:
        raise DiscoveryError(f"{name} can't be used: {error}") from error
    return value

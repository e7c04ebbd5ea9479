"""The key set that relying parties fetch (`keys.json`): which keys, and in which order.

Keys themselves, their ids and JWKs are `shared_store.signing_keys`; which one signs is decided by the key set.
"""

from collections.abc import Mapping, Sequence

from shared_store.signing_keys import SIGNING_ALGS, SigningAlg, SigningKey


def jwk_set(keys: Mapping[SigningAlg, Sequence[SigningKey]]) -> dict[str, list[dict[str, str]]]:
    """The JWK set (RFC 7517 §5): RS256 before EdDSA, each algorithm's keys as given (signing, next, previous).

    The default algorithm's signing key comes first because some clients take the first key they find.
    """
    in_order = (key for alg in SIGNING_ALGS for key in keys.get(alg, ()))
    return {"keys": list({key.kid: dict(key.public_jwk) for key in in_order}.values())}


def manual_keys(configured: Sequence[SigningKey]) -> dict[SigningAlg, tuple[SigningKey, ...]]:
    """Keys from files by algorithm, the one that signs first: the last that was configured."""
    by_alg = {alg: [key for key in configured if key.alg == alg] for alg in SIGNING_ALGS}
    return {alg: (keys[-1], *keys[:-1]) for alg, keys in by_alg.items() if keys}

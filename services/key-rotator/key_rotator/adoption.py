"""Takes over the keys of a Rust Portier Broker, with their kids and expiries. Its Redis is only read."""

from __future__ import annotations

from collections.abc import Sequence

from key_rotator.errors import AdoptionError
from key_rotator.policy import Policy, Situation, installed
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreError
from shared_store.key_sets import KeySet, PublishedKey
from shared_store.rust_broker import RustKey, RustKeySet, load_rust_key_set
from shared_store.signing_keys import SigningAlg, SigningKey
from shared_store.store import Store
from shared_store.store_url import StoreUrlError


async def read_rust_broker(
    url: str, options: ConnectionOptions, algs: Sequence[SigningAlg]
) -> dict[SigningAlg, RustKeySet]:
    """Read the key sets that there are, of these algorithms.

    Raises:
        AdoptionError: the other Redis can't be read, or has no keys.
    """
    try:
        async with Store(url, options) as source:
            found = {alg: await source.run(load_rust_key_set(alg)) for alg in algs}
            place = str(source.url)
    except (StoreError, StoreUrlError) as error:
        raise AdoptionError(f"nothing was adopted: {error}") from error
    rust = {alg: key_set for alg, key_set in found.items() if key_set is not None and (key_set.current or key_set.next)}
    if not rust:
        raise AdoptionError(
            f"nothing was adopted: there are no {' or '.join(algs)} keys of a Portier Broker at {place}"
        )
    return rust


def missing_keys(rust: RustKeySet) -> int:
    """Tell how many new keys it takes to complete a set."""
    return (rust.current, rust.next).count(None)


def adopted(rust: RustKeySet, situation: Situation, policy: Policy, keys: Sequence[SigningKey]) -> KeySet:
    """Give the key set that goes on where the Rust broker's stands; `keys` are the `missing_keys`.

    That broker publishes a next key from the moment the current one signs, and both last equally long.
    """
    now = situation.now
    upcoming = [key for key in (rust.current, rust.next) if key is not None]
    period = rust.next.expires - rust.current.expires if rust.current and rust.next else policy.keys_ttl
    since = min(max(upcoming[0].expires - period, 0.0), now)
    for key in keys:
        upcoming.append(RustKey(key, max(upcoming[-1].expires, now) + policy.keys_ttl))
    current, following = upcoming
    new = {key.kid for key in keys}
    old = () if rust.previous is None else (PublishedKey(rust.previous, since, since, now, now + policy.retirement),)
    return installed(
        situation,
        policy,
        current=PublishedKey(current.key, since, since, current.expires),
        following=PublishedKey(
            following.key, now if following.key.kid in new else since, current.expires, following.expires
        ),
        previous=old,
    )

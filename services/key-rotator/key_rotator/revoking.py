"""`key-rotator revoke`: in an emergency, keys that others may have go out of use at once."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence

from key_rotator.errors import RevocationError
from key_rotator.keeper import LOCK_WAIT, CarryOut, Change, KeyKeeper
from key_rotator.policy import Policy, Situation, Step, without
from key_rotator.settings import Settings
from shared_store.key_sets import KeySet
from shared_store.signing_keys import SigningAlg, SigningKey

AFTERWARDS = """\
keys.json leaves them out at once; an instance that missed the notice follows within 30 s. Relying parties that hold an
older copy may trust them for up to {keys_ttl} s more: docs/keys.md says what can be done about that."""


async def revoke_keys(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> int:
    """Take keys out of use: all that are named, or none where one isn't known."""
    key_sets = {alg: (await keeper.look(alg)).stored for alg in settings.signing_algs}
    for alg, kids in _to_revoke(key_sets, arguments.kid, everything=arguments.all).items():
        detail = " ".join(filter(None, (*kids, arguments.reason)))
        change = Change(lambda _: Step.REVOKE, carry_out=_without(kids), detail=detail)
        changed = await keeper.change(alg, change, wait=LOCK_WAIT)
        if changed is not None:
            _, key_set = changed
            print(f"{alg}: revoked {' '.join(kids)}; {key_set.current.key.kid} signs from now on")
    print(AFTERWARDS.format(keys_ttl=settings.keys_ttl))
    return 0


def _to_revoke(
    key_sets: Mapping[SigningAlg, KeySet | None], kids: Sequence[str], *, everything: bool
) -> dict[SigningAlg, tuple[str, ...]]:
    """Tell by algorithm which keys are to go.

    Raises:
        RevocationError: it isn't clear which; the message names those that there are.
    """
    if bool(kids) == everything:
        raise RevocationError("which keys? Name them by the KIDs of `status`, or give --all")
    there = {alg: [key.key.kid for key in keys.published()] for alg, keys in key_sets.items() if keys is not None}
    known = [kid for kids_of_alg in there.values() for kid in kids_of_alg]
    if unknown := sorted(set(kids).difference(known)):
        there_are = ", ".join(known) or "none"
        raise RevocationError(f"nothing was revoked: no key has the id {' or '.join(unknown)}; there are {there_are}")
    chosen = {alg: tuple(kid for kid in kids_of_alg if everything or kid in kids) for alg, kids_of_alg in there.items()}
    return {alg: kids_of_alg for alg, kids_of_alg in chosen.items() if kids_of_alg}


def _without(kids: Collection[str]) -> CarryOut:
    def carry_out(_: Step, situation: Situation, policy: Policy, keys: Sequence[SigningKey]) -> KeySet:
        return without(kids, situation, policy, keys)

    return carry_out

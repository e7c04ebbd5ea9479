"""Who signs when: pure decisions about one algorithm's key set. Nothing here reads a clock, makes a key or does I/O.

`decide` names the step that is due, `carry_out` gives the key set after it. All times are Unix seconds of Redis' clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from shared_store.key_sets import KeySet, PublishedKey
from shared_store.signing_keys import SigningAlg, SigningKey

DAY = 86400.0
LAG = 60.0  # seconds: how far an auth-api may be behind with the keys, and a relying party's clock with the time


class Step(StrEnum):
    """What can be done to a key set."""

    CREATE = "create"  # there is none: two new keys
    RENEW = "renew"  # its next key is out of date as well: two new keys
    ROTATE = "rotate"  # the next key signs from now on
    RETIRE = "retire"  # keys go whose last token has expired
    RESTORE = "restore"  # Redis forgot what we know, or does not know what we signed with: write both
    RESEAL = "reseal"  # the same keys, sealed as is configured now
    REVOKE = "revoke"  # keys that others may have go at once; only by hand


KEYS_NEEDED = {
    Step.CREATE: 2, Step.RENEW: 2, Step.ROTATE: 1, Step.RETIRE: 0, Step.RESTORE: 0, Step.RESEAL: 0, Step.REVOKE: 2
}  # fmt: skip
MOST_REVOKED = 100  # ids of revoked keys that are kept in mind


@dataclass(frozen=True, slots=True)
class Policy:
    """How long keys sign and tokens live, in seconds."""

    keys_ttl: float
    token_ttl: float

    @property
    def lead(self) -> float:
        """How long a key is published before it signs, so that no relying party meets an unknown kid."""
        return min(DAY, self.keys_ttl / 3)

    @property
    def retirement(self) -> float:
        """How long a key stays published once it has stopped signing: until every token it signed has expired."""
        return self.token_ttl + LAG


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about one algorithm's keys: what Redis has, and what this process last saw or wrote."""

    alg: SigningAlg
    now: float
    stored: KeySet | None
    remembered: KeySet | None = None

    @property
    def version(self) -> int:
        """The version in Redis, 0 where there is no key set."""
        return 0 if self.stored is None else self.stored.version


def decide(situation: Situation, policy: Policy) -> Step | None:
    """Name the step that is due, or None."""
    stored, now = situation.stored, situation.now
    if _was_forgotten(situation) or _is_other_side(situation, policy):
        return Step.RESTORE
    if stored is None:
        return Step.CREATE
    if now >= stored.next.signs_until or _uses_revoked(stored):
        # keys.json may be cached until its current key's time is over, so no relying party's copy is fresh any more.
        return Step.RENEW
    if now >= rotation_due(stored, policy):
        return Step.ROTATE
    if any(key.published_until <= now for key in stored.previous):
        return Step.RETIRE
    return None


def rotation_due(key_set: KeySet, policy: Policy) -> float:
    """Tell when the next key takes over: when the current one's time is over and relying parties know the next."""
    return max(key_set.current.signs_until, next_may_sign(key_set, policy))


def next_may_sign(key_set: KeySet, policy: Policy) -> float:
    """Tell from when on the next key has been published for long enough to sign."""
    return key_set.next.published_since + policy.lead


def next_step_due(key_set: KeySet, policy: Policy) -> float:
    """Tell when something will have to be done."""
    return min(rotation_due(key_set, policy), *(key.published_until for key in key_set.previous), float("inf"))


def carry_out(step: Step, situation: Situation, policy: Policy, keys: Sequence[SigningKey] = ()) -> KeySet:
    """Give the key set after a step, for which `keys` holds as many new keys as `KEYS_NEEDED` says."""
    stored, now = situation.stored, situation.now
    if step is Step.RESTORE:
        return _restored(situation, policy)
    if stored is None or step is Step.RENEW:
        return new_key_set(situation, policy, current=keys[0], following=keys[1])
    if step is Step.ROTATE:
        return replace(
            stored,
            version=version_after(stored, now=now),
            current=_signing(stored.next, now, policy),
            next=_upcoming(keys[0], now, policy),
            previous=retired(stored, now, policy),
        )
    return replace(stored, version=version_after(stored, now=now), previous=_still_published(stored.previous, now))


def without(kids: Collection[str], situation: Situation, policy: Policy, keys: Sequence[SigningKey]) -> KeySet:
    """Give the stored key set without these keys, gone from keys.json at once; `keys` are two new ones.

    Where the current key goes, the next one signs: relying parties know it already.
    """
    stored, now = situation.stored, situation.now
    if stored is None:
        raise ValueError("where there are no keys, none can be revoked")
    current, following = stored.current, stored.next
    if following.key.kid in kids:
        following = _upcoming(keys[0], now, policy)
    if current.key.kid in kids:
        current = _signing(following, now, policy)
        following = _upcoming(keys[1], now, policy)
    return replace(
        stored,
        version=version_after(stored, situation.remembered, now=now),
        current=current,
        next=following,
        previous=_others(_still_published(stored.previous, now), kids),
        revoked=_together(tuple(sorted(kids)), stored.revoked),
    )


def new_key_set(
    situation: Situation,
    policy: Policy,
    *,
    current: SigningKey,
    following: SigningKey,
    previous: SigningKey | None = None,
) -> KeySet:
    """Give a set of keys without times of their own: the current one signs at once, for a whole period."""
    stored, now = situation.stored, situation.now
    since = {} if stored is None else {key.key.kid: key.published_since for key in stored.published()}
    published = PublishedKey(current, since.get(current.kid, now), now, now)
    upcoming = replace(_upcoming(following, now, policy), published_since=since.get(following.kid, now))
    old = () if previous is None else (PublishedKey(previous, now, now, now, now + policy.retirement),)
    return installed(situation, policy, current=_signing(published, now, policy), following=upcoming, previous=old)


def installed(
    situation: Situation,
    policy: Policy,
    *,
    current: PublishedKey,
    following: PublishedKey,
    previous: Sequence[PublishedKey] = (),
) -> KeySet:
    """Give a set in place of the stored one, whose keys that signed stay published for the sake of their tokens."""
    stored, now = situation.stored, situation.now
    revoked = () if stored is None else stored.revoked
    newcomers = {key.key.kid for key in (current, following, *previous)}
    kept = () if stored is None else _others(retired(stored, now, policy), newcomers.union(revoked))
    return KeySet(
        alg=situation.alg,
        version=version_after(stored, situation.remembered, now=now),
        current=current,
        next=following,
        previous=(*previous, *kept),
        revoked=revoked,
    )


def retired(key_set: KeySet, now: float, policy: Policy) -> tuple[PublishedKey, ...]:
    """Give a set's retired keys and, newest first, its current one as retired now."""
    stopped = replace(key_set.current, signs_until=now, published_until=now + policy.retirement)
    return (stopped, *_still_published(key_set.previous, now))


def version_after(*key_sets: KeySet | None, now: float) -> int:
    """Give a version above those of the sets.

    It is the time in milliseconds where that is higher, so that a set made after a failover or on an emptied Redis also
    beats the ones that were forgotten, which auth-api may still have in memory.
    """
    return max(int(now * 1000), *(key_set.version + 1 for key_set in key_sets if key_set is not None), 1)


def _was_forgotten(situation: Situation) -> bool:
    stored, remembered = situation.stored, situation.remembered
    if remembered is None:
        return False
    return stored is None or (remembered.version >= stored.version and remembered != stored)


def _is_other_side(situation: Situation, policy: Policy) -> bool:
    """Tell whether the newer set in Redis was made where nobody knew of ours: by the other side of a split.

    Whoever follows ours has its current key among the published, the revoked, or retires it long after its time.
    """
    stored, ours = situation.stored, situation.remembered
    if stored is None or ours is None or situation.now >= ours.current.signs_until + policy.retirement:
        return False
    known = {*(key.key.kid for key in stored.published()), *stored.revoked}
    return any(key.key.kid not in known for key in retired(ours, situation.now, policy))


def _restored(situation: Situation, policy: Policy) -> KeySet:
    """Give the newer of what we know and what Redis has, above both, and what signed in the other among the retired.

    Where one has revoked what the newer signs with, it is that one which is written.
    """
    ours, theirs, now = situation.remembered, situation.stored, situation.now
    if ours is None:
        raise ValueError("there is nothing to restore")
    revoked = _together(ours.revoked, () if theirs is None else theirs.revoked)
    if theirs is not None and theirs.version > ours.version:
        ours, theirs = theirs, ours
    if theirs is not None and _uses_revoked(replace(ours, revoked=revoked)):
        ours, theirs = theirs, ours
    known = {key.key.kid for key in ours.published()}
    signed_meanwhile = () if theirs is None else _others(retired(theirs, now, policy), known)
    return replace(
        ours,
        version=version_after(ours, theirs, now=now),
        previous=_others((*signed_meanwhile, *_still_published(ours.previous, now)), revoked),
        revoked=revoked,
    )


def _uses_revoked(key_set: KeySet) -> bool:
    return not {key_set.current.key.kid, key_set.next.key.kid}.isdisjoint(key_set.revoked)


def _together(kids: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*kids, *more)))[:MOST_REVOKED]


def _others(keys: Sequence[PublishedKey], kids: Collection[str]) -> tuple[PublishedKey, ...]:
    return tuple(key for key in keys if key.key.kid not in kids)


def _signing(published: PublishedKey, now: float, policy: Policy) -> PublishedKey:
    return replace(published, signs_from=now, signs_until=now + policy.keys_ttl)


def _upcoming(key: SigningKey, now: float, policy: Policy) -> PublishedKey:
    start = now + policy.keys_ttl
    return PublishedKey(key, published_since=now, signs_from=start, signs_until=start + policy.keys_ttl)


def _still_published(keys: Sequence[PublishedKey], now: float) -> tuple[PublishedKey, ...]:
    return tuple(key for key in keys if key.published_until > now)

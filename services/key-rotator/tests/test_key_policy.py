"""Who signs when: examples, and a model of relying parties that must never meet a token they can't verify."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from key_rotator.policy import (
    DAY,
    KEYS_NEEDED,
    LAG,
    MOST_REVOKED,
    Policy,
    Situation,
    Step,
    carry_out,
    decide,
    next_may_sign,
    next_step_due,
    rotation_due,
    without,
)
from shared_store.key_sets import KeySet
from shared_store.signing_keys import SigningKey, generate

NOW = 1_800_000_000.0
POLICY = Policy(keys_ttl=1000, token_ttl=100)


def _new_keys(count: int) -> list[SigningKey]:
    return [generate("EdDSA") for _ in range(count)]


def _do(step: Step, situation: Situation, policy: Policy = POLICY) -> KeySet:
    return carry_out(step, situation, policy, _new_keys(KEYS_NEEDED[step]))


def _first(now: float = NOW) -> KeySet:
    return _do(Step.CREATE, Situation("EdDSA", now, None))


def _kids(key_set: KeySet) -> list[str]:
    return [published.key.kid for published in key_set.published()]


def _at(key_set: KeySet | None, now: float, remembered: KeySet | None = None) -> Situation:
    return Situation("EdDSA", now, key_set, remembered)


def test_without_keys_two_are_made_and_published_at_once() -> None:
    assert decide(_at(None, NOW), POLICY) is Step.CREATE
    first = _first()
    assert (first.current.published_since, first.current.signs_from, first.current.signs_until) == (
        NOW,
        NOW,
        NOW + 1000,
    )
    assert (first.next.published_since, first.next.signs_from, first.next.signs_until) == (NOW, NOW + 1000, NOW + 2000)
    assert decide(_at(first, NOW), POLICY) is None


def test_next_signs_when_currents_time_is_over_and_current_stays_until_its_tokens_expire() -> None:
    first = _first()
    assert rotation_due(first, POLICY) == next_step_due(first, POLICY) == NOW + 1000
    assert decide(_at(first, NOW + 999.9), POLICY) is None
    assert decide(_at(first, NOW + 1000), POLICY) is Step.ROTATE
    second = _do(Step.ROTATE, _at(first, NOW + 1000))
    assert second.current.key == first.next.key
    assert second.current.signs_until == NOW + 2000
    assert second.next.published_since == NOW + 1000
    assert [key.key for key in second.previous] == [first.current.key]
    gone_at = NOW + 1000 + 100 + LAG
    assert next_step_due(second, POLICY) == gone_at
    assert decide(_at(second, gone_at), POLICY) is Step.RETIRE
    third = _do(Step.RETIRE, _at(second, gone_at))
    assert third.previous == ()
    assert third.version > second.version


def test_next_key_that_is_too_new_does_not_sign_although_currents_time_is_over() -> None:
    first = _first()
    young = replace(first, next=replace(first.next, published_since=NOW + 900))
    known = NOW + 900 + 1000 / 3
    assert next_may_sign(young, POLICY) == rotation_due(young, POLICY) == pytest.approx(known)
    assert decide(_at(young, NOW + 1100), POLICY) is None
    assert decide(_at(young, known), POLICY) is Step.ROTATE


def test_lead_is_a_day_or_a_third_of_the_period() -> None:
    assert Policy(keys_ttl=86400, token_ttl=1).lead == 28800
    assert Policy(keys_ttl=30 * DAY, token_ttl=1).lead == DAY


def test_set_that_is_two_periods_old_gets_two_new_keys_and_old_tokens_still_verify() -> None:
    first = _first()
    late = NOW + 2000
    assert decide(_at(first, late - 0.1), POLICY) is Step.ROTATE
    assert decide(_at(first, late), POLICY) is Step.RENEW
    renewed = _do(Step.RENEW, _at(first, late))
    old = {first.current.key.kid, first.next.key.kid}
    assert not old & {renewed.current.key.kid, renewed.next.key.kid}
    assert [key.key for key in renewed.previous] == [first.current.key]


def test_rotation_that_a_failover_forgot_is_written_again_above_both_versions() -> None:
    first = _first()
    second = _do(Step.ROTATE, _at(first, NOW + 1000))
    situation = _at(first, NOW + 1001, second)
    assert decide(situation, POLICY) is Step.RESTORE
    restored = _do(Step.RESTORE, situation)
    assert restored.version > max(first.version, second.version)
    assert replace(restored, version=second.version) == second


def test_keys_of_an_emptied_redis_come_back_from_memory() -> None:
    first = _first()
    situation = _at(None, NOW + 5, first)
    assert decide(situation, POLICY) is Step.RESTORE
    assert _do(Step.RESTORE, situation).current == first.current


def test_what_signed_in_a_set_that_loses_stays_published() -> None:
    ours, theirs = _first(), replace(_first(), version=1)
    restored = _do(Step.RESTORE, _at(theirs, NOW + 1, ours))
    assert restored.current == ours.current
    assert [key.key for key in restored.previous] == [theirs.current.key]


def test_what_signed_on_the_older_side_of_a_split_is_published_again_beside_the_newer() -> None:
    first = _first()
    ours = _do(Step.ROTATE, _at(_do(Step.ROTATE, _at(first, NOW + 1000)), NOW + 2000))
    theirs = _do(Step.ROTATE, _at(_do(Step.ROTATE, _at(first, NOW + 1001)), NOW + 2001))
    assert theirs.version > ours.version
    situation = _at(theirs, NOW + 2002, ours)
    assert decide(situation, POLICY) is Step.RESTORE
    together = _do(Step.RESTORE, situation)
    assert (together.current, together.next) == (theirs.current, theirs.next)
    assert {ours.current.key.kid, *_kids(ours)[2:]} <= set(_kids(together))
    assert len(_kids(together)) == len(set(_kids(together)))
    assert together.version > theirs.version
    for remembered in (ours, theirs, together):
        assert decide(_at(together, NOW + 2003, remembered), POLICY) is None
    # Once their tokens have expired they go, and nobody brings them back.
    after = _do(Step.RETIRE, _at(together, NOW + 2002 + POLICY.retirement))
    for remembered in (theirs, together):
        assert decide(_at(after, NOW + 2002 + POLICY.retirement, remembered), POLICY) is not Step.RESTORE


def test_newer_set_in_redis_wins_over_memory() -> None:
    first = _first()
    assert decide(_at(_do(Step.ROTATE, _at(first, NOW + 1000)), NOW + 1001, first), POLICY) is None


def test_versions_grow_though_nothing_is_remembered_or_the_clock_goes_back() -> None:
    first = _first()
    assert _first(NOW + 1).version > first.version  # made on an emptied Redis by a rotator that has just started
    assert _do(Step.ROTATE, _at(first, NOW - DAY)).version == first.version + 1


def test_revoked_current_key_is_gone_at_once_and_the_next_one_signs() -> None:
    first = _first()
    after = without([first.current.key.kid], _at(first, NOW + 5), POLICY, _new_keys(2))
    assert after.current.key == first.next.key
    assert after.current.signs_until == NOW + 5 + 1000
    assert first.current.key.kid not in _kids(after)
    assert after.revoked == (first.current.key.kid,)
    assert after.version > first.version
    assert decide(_at(after, NOW + 6, first), POLICY) is None


def test_revoked_next_key_is_replaced_and_the_current_one_goes_on() -> None:
    first = _first()
    after = without([first.next.key.kid], _at(first, NOW + 5), POLICY, _new_keys(2))
    assert after.current == first.current
    assert first.next.key.kid not in _kids(after)
    assert after.next.published_since == NOW + 5


def test_revoked_retired_key_alone_goes() -> None:
    second = _do(Step.ROTATE, _at(_first(), NOW + 1000))
    [old] = second.previous
    after = without([old.key.kid], _at(second, NOW + 1001), POLICY, _new_keys(2))
    assert (after.current, after.next, after.previous) == (second.current, second.next, ())


def test_when_all_are_revoked_two_new_keys_are_all_that_is_published() -> None:
    second = _do(Step.ROTATE, _at(_first(), NOW + 1000))
    new = _new_keys(2)
    after = without(_kids(second), _at(second, NOW + 1001), POLICY, new)
    assert _kids(after) == [key.kid for key in new]
    assert set(after.revoked) == set(_kids(second))


def test_revocation_that_a_failover_forgot_is_written_again_and_brings_nothing_back() -> None:
    first = _first()
    revoked = without([first.current.key.kid], _at(first, NOW + 5), POLICY, _new_keys(2))
    forgotten = _at(first, NOW + 6, revoked)
    assert decide(forgotten, POLICY) is Step.RESTORE
    restored = _do(Step.RESTORE, forgotten)
    assert first.current.key.kid not in _kids(restored)
    assert restored.current == revoked.current


def test_of_two_sides_of_a_split_the_one_that_revoked_wins_though_the_other_is_newer() -> None:
    first = _first()
    revoked = without([first.current.key.kid], _at(first, NOW + 5), POLICY, _new_keys(2))
    newer = replace(first, version=revoked.version + 10)
    split = _at(revoked, NOW + 6, newer)
    assert decide(split, POLICY) is Step.RESTORE
    restored = _do(Step.RESTORE, split)
    assert restored.version > newer.version
    assert restored.current == revoked.current
    assert first.current.key.kid not in _kids(restored)


def test_set_that_signs_with_a_revoked_key_gets_two_new_ones() -> None:
    first = _first()
    bad = replace(first, revoked=(first.next.key.kid, first.current.key.kid))
    assert decide(_at(bad, NOW), POLICY) is Step.RENEW
    renewed = _do(Step.RENEW, _at(bad, NOW))
    assert not set(_kids(renewed)) & set(bad.revoked)
    assert decide(_at(renewed, NOW), POLICY) is None


def test_ids_of_revoked_keys_outlive_rotations_and_are_bounded() -> None:
    first = replace(_first(), revoked=tuple(f"kid-{n}" for n in range(MOST_REVOKED)))
    assert _do(Step.ROTATE, _at(first, NOW + 1000)).revoked == first.revoked
    after = without([first.next.key.kid], _at(first, NOW), POLICY, _new_keys(2))
    assert after.revoked == (first.next.key.kid, *first.revoked[:-1])


class KeysInUse(RuleBasedStateMachine):
    """Rotators that come and go, auth-apis that lag behind, and tokens that must verify as long as they are valid."""

    @initialize(keys_ttl=st.integers(1, 10**6), token_ttl=st.integers(1, 10**5))
    def start(self, keys_ttl: int, token_ttl: int) -> None:
        self.policy = Policy(keys_ttl=keys_ttl, token_ttl=token_ttl)
        self.now = NOW
        self.stored: KeySet | None = None
        self.history: list[tuple[float, KeySet]] = []  # when each set was written
        self.tokens: list[tuple[str, float]] = []  # kid, expiry
        self.versions: list[int] = []
        self.remembered: KeySet | None = None
        self.revoked: set[str] = set()
        self.look()

    @rule()
    def look(self) -> None:
        while step := decide(Situation("EdDSA", self.now, self.stored, self.remembered), self.policy):
            self.write(step)
        self.remembered = self.stored

    @rule(fraction=st.floats(0, 3))
    def let_time_pass(self, fraction: float) -> None:
        self.now += fraction * self.policy.keys_ttl

    @rule(seconds=st.floats(0, 300))
    def let_seconds_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def rotate_by_hand(self) -> None:
        if self.stored is not None and self.now >= next_may_sign(self.stored, self.policy):
            self.write(Step.ROTATE)

    @rule(which=st.sets(st.integers(0, 3), min_size=1))
    def revoke_by_hand(self, which: set[int]) -> None:
        self.look()
        assert self.stored is not None
        kids = {kid for place, kid in enumerate(_kids(self.stored)) if place in which}
        situation = Situation("EdDSA", self.now, self.stored, self.remembered)
        self.stored = without(kids, situation, self.policy, _new_keys(2))
        self.revoked |= kids
        self.history.append((self.now, self.stored))
        self.versions.append(self.stored.version)

    @rule()
    def restart_rotator(self) -> None:
        self.remembered = None

    # What nobody has seen before Redis forgets it can't come back.
    @precondition(lambda self: self.remembered is not None and self.remembered == self.stored)
    @rule()
    def empty_redis(self) -> None:
        self.stored = None
        self.look()

    @precondition(lambda self: self.remembered is not None and self.remembered == self.stored)
    @rule()
    def forget_last_write(self) -> None:
        if len(self.history) > 1:
            self.stored = self.history[-2][1]
            self.look()

    @rule(lag=st.floats(0, LAG))
    def sign(self, lag: float) -> None:
        written = [key_set for at, key_set in self.history if at <= self.now - lag] or [self.history[0][1]]
        self.tokens.append((written[-1].current.key.kid, self.now + self.policy.token_ttl))

    def write(self, step: Step) -> None:
        before = self.stored
        after = carry_out(
            step, Situation("EdDSA", self.now, before, self.remembered), self.policy, _new_keys(KEYS_NEEDED[step])
        )
        if step is Step.ROTATE:
            assert before is not None
            assert after.current.key == before.next.key
            assert self.now - before.next.published_since >= self.policy.lead - 1e-6
        self.stored = after
        self.history.append((self.now, after))
        self.versions.append(after.version)

    @invariant()
    def every_valid_token_verifies(self) -> None:
        if self.stored is not None:
            valid = {kid for kid, expires in self.tokens if self.now <= expires}
            assert valid - self.revoked <= set(_kids(self.stored))

    @invariant()
    def revoked_keys_never_come_back(self) -> None:
        if self.stored is not None:
            assert self.revoked.isdisjoint(_kids(self.stored))

    @invariant()
    def key_ids_are_unique_and_versions_grow(self) -> None:
        assert sorted(set(self.versions)) == self.versions
        if self.stored is not None:
            kids = [key.key.kid for key in self.stored.published()]
            assert len(set(kids)) == len(kids)


KeysInUse.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_every_token_verifies_whatever_happens = KeysInUse.TestCase

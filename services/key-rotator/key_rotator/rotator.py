"""The loop that looks after the keys: when they are due, when a notice comes, and at least every 30 s.

Any number may run. What to do is `policy`'s to say, how it is done safely is `keeper`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence

import structlog

from key_rotator.errors import KeyRotatorError, KeysBusyError, KeysNotReadyError
from key_rotator.keeper import Change, KeyKeeper
from key_rotator.metrics import Metrics
from key_rotator.policy import Situation, Step, decide, next_step_due
from service_kit.tracing import step, tell
from shared_store.errors import CorruptRecord, KeySetConflict, LockLost, StoreError, StoreUnavailable
from shared_store.key_sets import KeySet
from shared_store.keyspace import KEYS_UPDATED_CHANNEL
from shared_store.notices import Listener, Notices
from shared_store.signing_keys import SigningAlg

log = structlog.get_logger(__name__)

POLL = 30.0  # seconds between looks where nothing is due and no notice comes
RACE_PAUSE = 0.2  # seconds, after another was quicker
FIRST_RETRY, LAST_RETRY, LAST_RETRY_REFUSED = 0.5, 5.0, 30.0  # seconds; the last where asking again changes little


class Rotator:
    """Looks after the key sets of the configured algorithms. `run` is its task."""

    def __init__(self, keeper: KeyKeeper, *, algs: Sequence[SigningAlg], metrics: Metrics) -> None:
        self._wards = [_Ward(alg, keeper, metrics) for alg in algs]

    async def run(self, notices: Notices) -> None:
        """Look after the keys until cancelled."""
        with notices.listen(KEYS_UPDATED_CHANNEL) as changes:
            while True:
                with step("look after keys", None):
                    pauses = [await ward.look_after() for ward in self._wards]
                await _wait(changes, min(pauses))

    def check_ready(self) -> None:
        """Make sure that all keys are there and looked after.

        Raises:
            KeysNotReadyError: with each reason.
        """
        if problems := [ward.problem for ward in self._wards if ward.problem]:
            raise KeysNotReadyError("; ".join(problems))


class _Ward:
    """One algorithm's keys, and what this process remembers of them."""

    def __init__(self, alg: SigningAlg, keeper: KeyKeeper, metrics: Metrics) -> None:
        self.problem: str | None = f"there are no {alg} keys yet"
        self._alg = alg
        self._keeper = keeper
        self._metrics = metrics
        self._remembered: KeySet | None = None
        self._may_reseal = True  # once: two rotators with different settings must not take turns
        self._retry = FIRST_RETRY
        metrics.expect(alg)

    async def look_after(self) -> float:
        """Do what is due and tell how many seconds there are until the next look. A failure is logged and shown."""
        try:
            pause = await self._do_what_is_due()
        except KeysBusyError:
            return RACE_PAUSE
        except (KeySetConflict, LockLost) as error:
            self._metrics.conflict(self._alg)
            log.info("keys_changed_by_another", alg=self._alg, reason=str(error))
            return RACE_PAUSE
        except (StoreError, KeyRotatorError) as error:
            return self._failed(error)
        self._retry = FIRST_RETRY
        return pause

    async def _do_what_is_due(self) -> float:
        asked = time.time()
        try:
            situation = await self._keeper.look(self._alg, remembered=self._remembered)
        except CorruptRecord:
            if not await self._mend():
                raise
            return 0.0
        clock_offset = situation.now - (asked + time.time()) / 2
        if self._decide(situation) is not None:
            changed = await self._keeper.change(self._alg, Change(self._decide, remembered=self._remembered))
            if changed is None:
                return RACE_PAUSE
            made, key_set = changed
            tell(alg=self._alg, change=str(made))
            self._metrics.changed(self._alg, made)
            self._remember(key_set, clock_offset)
            return 0.0
        if situation.stored is None:
            raise AssertionError("where there is no key set, creating one is due")
        self._remember(situation.stored, clock_offset)
        return min(max(next_step_due(situation.stored, self._keeper.policy) - situation.now, 0.0), POLL)

    async def _mend(self) -> bool:
        """Write the keys that we know over what can't be read, unless a newer key-rotator may have written that."""
        if self._remembered is None:
            return False
        mended = await self._keeper.mend(self._alg, self._remembered)
        if mended is None:
            return False
        self._metrics.changed(self._alg, Step.RESTORE)
        self._remembered = mended
        return True

    def _decide(self, situation: Situation) -> Step | None:
        due = decide(situation, self._keeper.policy)
        if due is None and self._may_reseal and situation.stored and not situation.stored.sealed_as_configured:
            return Step.RESEAL
        return due

    def _remember(self, key_set: KeySet, clock_offset: float) -> None:
        if self.problem is not None:
            log.info("keys_ready", alg=self._alg, version=key_set.version, kid=key_set.current.key.kid)
        self.problem = None
        self._remembered = key_set
        self._may_reseal = False
        self._metrics.show(key_set, self._keeper.policy, clock_offset=clock_offset)

    def _failed(self, error: StoreError | KeyRotatorError) -> float:
        problem = str(error)
        passes = isinstance(error, StoreUnavailable)
        if passes or problem != self.problem:
            log.warning("keys_not_looked_after", alg=self._alg, reason=problem, try_again_in=round(self._retry, 1))
        self.problem = problem
        tell(failed=True)
        self._metrics.failed(self._alg)
        pause = self._retry * random.uniform(0.5, 1.0)  # noqa: S311 - only spreads the load
        self._retry = min(self._retry * 2, LAST_RETRY if passes else LAST_RETRY_REFUSED)
        return pause


async def _wait(changes: Listener, seconds: float) -> None:
    """Wait for a notice, at most so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changes.get()
    while not changes.empty():
        changes.get_nowait()

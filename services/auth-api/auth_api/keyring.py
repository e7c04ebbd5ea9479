"""The signing keys in memory: what signs, what keys.json tells, and the server's clock beside them.

Follows key-rotator by notice and by poll; goes on with the last set known while Redis is away, and never goes back to
an older version.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

import structlog

from auth_api.errors import NoSigningKeyError
from auth_api.oidc.keys import jwk_set
from shared_store.errors import StoreError, StoreUnavailable
from shared_store.key_sets import KeySet, KeySets
from shared_store.keyspace import KEYS_UPDATED_CHANNEL
from shared_store.notices import Notices
from shared_store.signing_keys import SigningAlg, SigningKey
from shared_store.store import Store

log = structlog.get_logger(__name__)

POLL = 30.0  # seconds between looks where the notice of a change was lost
IMPATIENT_POLL = 0.5  # seconds between looks while a key is missing


class Keyring:
    """Signing keys by algorithm. `follow` is its task; everyone else reads from memory."""

    def __init__(
        self,
        store: Store,
        key_sets: KeySets,
        notices: Notices,
        *,
        algs: Sequence[SigningAlg],
        manual: Mapping[SigningAlg, tuple[SigningKey, ...]] | None = None,
    ) -> None:
        self._store = store
        self._key_sets = key_sets
        self._notices = notices
        self._algs = algs
        self._manual = manual
        self._known: dict[SigningAlg, KeySet] = {}
        self._problems: dict[SigningAlg, str] = {}  # why a key set can't be read
        self._clock_offset = 0.0  # seconds to add to this machine's clock to have the server's
        self.jwk_set = jwk_set(manual or {})

    def now(self) -> float:
        """Give the server's time in Unix seconds, so that all instances' tokens agree."""
        return time.time() + self._clock_offset

    def signing_key(self, alg: SigningAlg) -> SigningKey:
        """Give the key that signs.

        Raises:
            NoSigningKeyError: there is none yet.
        """
        if self._manual is not None:
            return self._manual[alg][0]
        if alg not in self._known:
            problem = self._problems.get(alg, "is key-rotator running?")
            raise NoSigningKeyError(f"there is no {alg} key yet: {problem}")
        return self._known[alg].current.key

    def check_ready(self) -> None:
        """Make sure that there is a key for every algorithm before something is consumed for a token.

        Raises:
            NoSigningKeyError: there is none for some.
        """
        for alg in self.missing():
            self.signing_key(alg)

    def missing(self) -> list[SigningAlg]:
        """Name the algorithms that have no key."""
        return [] if self._manual is not None else [alg for alg in self._algs if alg not in self._known]

    def seconds_to_next_change(self) -> float:
        """Tell when the nearest signing key is due to be replaced; 0 where that is now or unknown."""
        ends = [key_set.current.signs_until for key_set in self._known.values()]
        return max(min(ends) - self.now(), 0.0) if ends else 0.0

    @property
    def is_manual(self) -> bool:
        """Whether the keys are configured and never change."""
        return self._manual is not None

    async def follow(self) -> None:
        """Keep up with the key sets until cancelled."""
        with self._notices.listen(KEYS_UPDATED_CHANNEL) as changes:
            while True:
                await self.refresh()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IMPATIENT_POLL if self.missing() else POLL):
                        await changes.get()

    async def refresh(self) -> None:
        """Read the key sets once. A failure leaves what is known and is logged."""
        for alg in self._algs:
            try:
                await self._read(alg)
            except StoreError as error:
                # What passes by itself is told by who watches the store; of the rest, each reason once.
                is_news = not isinstance(error, StoreUnavailable) and self._problems.get(alg) != str(error)
                (log.warning if is_news else log.debug)("key_set_not_read", alg=alg, error=str(error))
                self._problems[alg] = str(error)
            else:
                self._problems.pop(alg, None)
        if self._manual is None:
            self.jwk_set = jwk_set(
                {alg: [published.key for published in keys.published()] for alg, keys in self._known.items()}
            )

    async def _read(self, alg: SigningAlg) -> None:
        before = time.time()
        loaded = await self._store.run(self._key_sets.load(alg))
        self._clock_offset = loaded.time - (before + time.time()) / 2
        known = self._known.get(alg)
        if loaded.key_set is None or (known is not None and loaded.key_set.version <= known.version):
            return
        self._known[alg] = loaded.key_set
        log.info("key_set_read", alg=alg, version=loaded.key_set.version, kid=loaded.key_set.current.key.kid)

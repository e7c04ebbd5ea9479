"""What other servers answered, kept in Redis for all instances: each is asked once, and nobody waits for it twice.

A stale answer is used at once and asked for anew beside. A failure is an answer, too: fresh for a minute, then used
on while a new try runs beside, so that a server that hangs delays one login and not one a minute (decision 16).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from auth_api.discovery.flights import Flights
from auth_api.errors import DiscoveryError, HostError
from shared_store import fetch_cache
from shared_store.commands import Call
from shared_store.errors import StoreError
from shared_store.fetch_cache import CachedFetch, Known
from shared_store.keyspace import digest
from shared_store.locks import Locks
from shared_store.store import Store

log = structlog.get_logger(__name__)

LONGEST_FRESH = 86_400.0  # seconds, whatever the server says: nobody's documents take the cache's room for long
STALE = 86_400.0  # seconds a stale answer is used on while asking anew fails
FAILURE_FRESH = 60.0  # seconds without another try
FAILURE_STALE = 3_600.0  # seconds a failure is used on while the next try runs beside
SLOW = 1.0  # seconds: a failure that took longer to find out ...
SLOW_TIMES = 24  # ... is used on for so many times longer, so that nobody waits for it every hour
LOCK_MARGIN = 5.0  # seconds over a question's own time for writing down what came of it
ANEW_EVERY = 30.0  # seconds between two questions that the cache was not enough for

Value_co = TypeVar("Value_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept, already checked and cut down to what is used; `fresh` in seconds."""

    text: str
    fresh: float


@dataclass(frozen=True, slots=True)
class Question(Generic[Value_co]):
    """Something to ask another server.

    `name` is what the answer is kept under, mostly a URL. `read` makes of an answer's text what it says, or raises a
    DiscoveryError: in the cache may lie anything. `host` names several questions to one server: where the server can't
    be reached at all, that answers all of them. `timeout` is in seconds, as is how long a failure is kept.
    """

    name: str
    ask: Callable[[], Awaitable[Answer]]
    read: Callable[[str], Value_co]
    timeout: float
    host: str | None = None
    failure_fresh: float = FAILURE_FRESH
    failure_stale: float = FAILURE_STALE

    @property
    def names(self) -> list[str]:
        """What to read before asking."""
        return [self.name] if self.host is None else [self.name, self.host]

    def can_read(self, text: str) -> bool:
        """Tell junk from answers."""
        try:
            self.read(text)
        except DiscoveryError:
            return False
        return True


class AnswerCache:
    """Asks, keeps, and remembers."""

    def __init__(self, store: Store, locks: Locks, flights: Flights[str]) -> None:
        self._store = store
        self._locks = locks
        self._flights = flights

    async def get(self, question: Question[Value_co], known: Known | None = None) -> Value_co:
        """Give what the answer says. `known` is what has been read already, else Redis is asked first.

        The caller bounds the time; what is asked goes on when the caller has gone. Junk in the cache is no answer.

        Raises:
            DiscoveryError: there is no usable answer, now or lately.
            StoreError: Redis can't be asked.
        """
        if known is None or not known.keys() >= set(question.names):
            known = await self._store.run(fetch_cache.read_all(question.names))
        own = known[question.name]
        if own is not None and own.document is not None:
            with contextlib.suppress(DiscoveryError):
                value = question.read(own.document)
                if not own.fresh:
                    self._ask_beside(question)
                return value
            own = None
        failed = own or _down(known, question.host)
        if failed is None:
            text = await asyncio.shield(self._flights.join(question.name, lambda: self._fly(question)))
            return question.read(text)
        if not failed.fresh:
            self._ask_beside(question)
        raise DiscoveryError(f"{failed.failure} (lately)")

    async def get_anew(self, question: Question[Value_co]) -> Value_co:
        """Ask again although there is an answer, since it was not enough; at most once in a while over all instances.

        Raises:
            DiscoveryError: there is no usable answer.
            StoreError: Redis can't be asked.
        """
        # Never released: its life is the while.
        is_first = await self._locks.try_take(f"anew:{digest(question.name)}", ttl=ANEW_EVERY) is not None
        flight = self._flights.join(question.name, lambda: self._fly(question, anew=is_first))
        return question.read(await asyncio.shield(flight))

    async def remember_slow(self, question: Question[object]) -> None:
        """Let a question that somebody has waited for in vain count as failed, until its answer comes after all."""
        with _told():
            await self._store.run_all(*_failure(question, HostError("no answer yet"), slow=True))

    def _ask_beside(self, question: Question[object]) -> None:
        with contextlib.suppress(DiscoveryError):  # too busy: the next who needs it tries again
            self._flights.join(question.name, lambda: self._fly(question))

    async def _fly(self, question: Question[object], *, anew: bool = False) -> str:
        """Ask under a lock; who comes second, here or in another instance, finds the answer of who came first."""
        async with self._locked(question) as is_locked:
            if not anew:
                known = await self._store.run(fetch_cache.read(question.name))
                is_junk = known is not None and known.document is not None and not question.can_read(known.document)
                if known is not None and known.fresh and not is_junk:
                    return _settled(known)
                if is_junk and is_locked:
                    await self._throw_away(question)
            if not is_locked:
                raise DiscoveryError("another instance is still asking")
            return await self._ask(question)

    @contextlib.asynccontextmanager
    async def _locked(self, question: Question[object]) -> AsyncIterator[bool]:
        name = f"fetch:{digest(question.name)}"
        lock = await self._locks.take(name, ttl=question.timeout + LOCK_MARGIN, wait=question.timeout)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                with contextlib.suppress(StoreError):  # it ends by itself
                    await self._locks.release(lock)

    async def _throw_away(self, question: Question[object]) -> None:
        """Let junk go, else a failure would be kept beside it and never be seen."""
        log.warning("cached_answer_is_junk", entry=digest(question.name))
        with _told():
            await self._store.run(fetch_cache.forget(question.name))

    async def _ask(self, question: Question[object]) -> str:
        began = asyncio.get_running_loop().time()
        try:
            answer = await question.ask()
        except DiscoveryError as error:
            slow = asyncio.get_running_loop().time() - began > SLOW
            with _told():
                await self._store.run_all(*_failure(question, error, slow=slow))
            raise
        fresh = min(answer.fresh, LONGEST_FRESH)
        write = fetch_cache.write(question.name, answer.text, fresh=fresh, stale=STALE)
        with _told():
            if question.host is not None:
                await self._store.run_all(write, fetch_cache.forget(question.host))
            else:
                await self._store.run(write)
        return answer.text


def _failure(question: Question[object], error: DiscoveryError, *, slow: bool) -> list[Call[None]]:
    """Keep a failure, also under the name of the host where the host is at fault."""
    names = question.names if isinstance(error, HostError) else [question.name]
    stale = question.failure_stale * (SLOW_TIMES if slow else 1)
    return [fetch_cache.write_failure(name, str(error), keep=question.failure_fresh, stale=stale) for name in names]


def _down(known: Known, host: str | None) -> CachedFetch | None:
    entry = None if host is None else known[host]
    return None if entry is None or entry.failure is None else entry


def _settled(known: CachedFetch) -> str:
    if known.document is None:
        raise DiscoveryError(str(known.failure))
    return known.document


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """An answer that can't be kept is an answer all the same."""
    try:
        yield
    except StoreError as error:
        log.warning("answer_not_kept", error=str(error))

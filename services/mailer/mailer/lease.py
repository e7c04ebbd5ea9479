"""One worker's time of tenure: its name, what it has in hand, until when that is its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from dataclasses import dataclass, field

LEASE = 15.0  # seconds a lease lives
RENEW = 2.5  # seconds between renewals


@dataclass(slots=True)
class Lease:
    """A registered worker. Jobs in `hand` are its own as long as the lease is not lost."""

    worker: str
    renewed: float = field(default_factory=time.monotonic)
    hand: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_fresh(self) -> bool:
        """Whether it was renewed within its life, so that nobody can have taken the jobs away."""
        return not self.lost.is_set() and time.monotonic() - self.renewed < LEASE

    def lose(self) -> None:
        """It is gone: stop everything that is in hand, since others have it by now."""
        self.lost.set()
        for task in self.hand.values():
            task.cancel()


class ServerClock:
    """The store's time, kept between the replies that tell it."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def set(self, now: float) -> None:
        """Take over the server's Unix time."""
        self._ahead = now - time.monotonic()

    def now(self) -> float:
        """The server's Unix time, as far as is known."""
        return time.monotonic() + self._ahead


class Slots:
    """How many jobs are worked on over all queues of a mailer. Queues get them in turn, so a full one starves none."""

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)

    async def reserve_one(self, *, wait: float | None) -> bool:
        """Wait up to `wait` seconds for a slot, None being for ever, and take it."""
        try:
            async with asyncio.timeout(wait):
                await self._free.acquire()
        except TimeoutError:
            return False
        return True

    async def reserve_rest(self) -> int:
        """Take all that are free, unless somebody waits for one; tells how many."""
        taken = 0
        while not self._free.locked():
            await self._free.acquire()
            taken += 1
        return taken

    def release(self, number: int) -> None:
        """Give slots back."""
        for _ in range(number):
            self._free.release()


class Slot:
    """One slot, to be given back once, early or at the end; `taken` where it is reserved already."""

    def __init__(self, slots: Slots, *, taken: bool) -> None:
        self._slots = slots
        self._taken = taken

    async def take(self) -> None:
        """Wait for it, where it is not reserved yet."""
        if not self._taken:
            self._taken = await self._slots.reserve_one(wait=None)

    def free_in(self, seconds: float) -> None:
        """Give it back in a while, unless that was done by then."""
        asyncio.get_running_loop().call_later(seconds, self.free)

    def free(self) -> None:
        """Give it back, unless that was done."""
        if self._taken:
            self._taken = False
            self._slots.release(1)


def new_worker_name() -> str:
    """Name a worker so that an operator finds its process, and so that no name comes twice."""
    host = socket.gethostname()[:40] or "mailer"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"

"""Junk in the place of a mail queue's keys: removed, since nobody could send a mail before, and told."""

from __future__ import annotations

from dataclasses import dataclass

from shared_store.commands import Call, Reply, command, load_script
from shared_store.errors import CorruptRecord
from shared_store.keyspace import (
    MAIL_DEAD,
    MAIL_DEATHS,
    MAIL_DELAYED,
    MAIL_GONE,
    MAIL_JOBS,
    MAIL_LEASES,
    MAIL_LOGINS,
    MAIL_READY,
    MAIL_TAKEN,
)
from shared_store.mail_queue import octets, text_of
from shared_store.store import Store

_MEND = load_script("mend_mail")
# In the order of the script's keys.
_STRUCTURES = (MAIL_READY, MAIL_DELAYED, MAIL_JOBS, MAIL_DEATHS, MAIL_LOGINS, MAIL_LEASES, MAIL_GONE, MAIL_DEAD)


@dataclass(frozen=True, slots=True)
class Mended:
    """Which keys held something else, and how many jobs were put back in line."""

    keys: tuple[str, ...] = ()
    jobs: int = 0


async def mend(store: Store, tag: str) -> Mended:
    """Remove what is of another type than belongs into a queue, and put jobs that were lost by it back in line.

    Nothing is done where a worker comes or goes at this very moment; do it again after a while.

    Raises:
        StoreError: it can't be done now.
    """
    workers = [*await _names(store, MAIL_LEASES.key(tag=tag)), *await _names(store, MAIL_GONE.key(tag=tag))]
    hands = [octets(MAIL_TAKEN.key(tag=tag, worker=text_of(worker))) for worker in workers]
    keys: list[str | bytes] = [*(structure.key(tag=tag) for structure in _STRUCTURES), *hands]
    return await store.run(Call((_MEND(keys, *workers),), _decode))


def _decode(replies: list[Reply]) -> Mended:
    if replies[0] is None:
        return Mended()
    keys, jobs = replies[0]
    return Mended(tuple(map(text_of, keys)), jobs)


async def _names(store: Store, key: str) -> list[bytes]:
    try:
        return await store.run(Call((command("ZRANGE", key, 0, -1),), lambda replies: list(replies[0])))
    except CorruptRecord:
        return []  # which is what is going to be mended

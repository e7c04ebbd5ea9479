"""Where mail jobs are, as an operator asks: in line, put off, in a mailer's hand, behind another, dead or done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared_store.commands import Call, command
from shared_store.dead_letters import DeadJob
from shared_store.keyspace import MAIL_DELAYED, MAIL_GONE, MAIL_LEASES, MAIL_LOGINS, MAIL_TAKEN
from shared_store.mail_jobs import due_at
from shared_store.mail_queue import MailQueue, Outcome, octets, text_of
from shared_store.store import Store


class Place(StrEnum):
    """Where a job may be."""

    READY = "ready"
    DELAYED = "delayed"
    IN_HAND = "in hand"
    BEHIND = "behind"  # another of the same login, which a mailer has in hand
    DEAD = "dead"
    DONE = "done"  # not long ago: of what was, nothing is known after two minutes


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One job: its place, and what lies in Redis for it.

    `due` is when a delayed one is tried again (Unix seconds), `worker` who has it in hand, `dead` and `outcome` what is
    kept of one that was given up, or is done.
    """

    id: str
    place: Place
    raw: bytes | None = None
    due: float | None = None
    worker: str = ""
    dead: DeadJob | None = None
    outcome: Outcome | None = None


async def list_jobs(store: Store, queue: MailQueue, *, most: int) -> list[Whereabouts]:
    """Give the jobs that are in hand, and of those that wait in line or are put off at most so many, next first."""
    hands = await _hands(store, queue.tag)
    waiting = await store.run(queue.waiting(most=most))
    found = [Whereabouts(job_id, Place.IN_HAND, worker=worker) for job_id, worker in hands.items()]
    found += [Whereabouts(name, Place.READY if due is None else Place.DELAYED, due=due) for name, due in waiting]
    looks = tuple(look for job in found for look in queue.show(job.id).commands)
    raws = await store.run(Call(looks, list))
    return [
        Whereabouts(job.id, job.place, raw, due=job.due, worker=job.worker)
        for job, raw in zip(found, raws, strict=True)
    ]


async def find_job(store: Store, queue: MailQueue, job_id: str) -> Whereabouts | None:
    """Tell where a job is; None where nothing is known of it."""
    put_off = Call((command("ZSCORE", MAIL_DELAYED.key(tag=queue.tag), octets(job_id)),), lambda replies: replies[0])
    raw, due, outcome = await store.run_all(queue.show(job_id), put_off, queue.result(job_id))
    if raw is None:
        return await _no_more(store, queue, job_id, outcome)
    if due is not None:
        return Whereabouts(job_id, Place.DELAYED, raw, due=due_at(due))
    if worker := (await _hands(store, queue.tag)).get(job_id):
        return Whereabouts(job_id, Place.IN_HAND, raw, worker=worker)
    login = command("HGET", MAIL_LOGINS.key(tag=queue.tag), octets(job_id.partition("-")[0]))
    entry = await store.run(Call((login,), lambda replies: replies[0] or b""))
    behind = entry.endswith(b" " + octets(job_id))
    return Whereabouts(job_id, Place.BEHIND if behind else Place.READY, raw)


async def count_mailers(store: Store, queue: MailQueue) -> int:
    """Count the workers that serve a queue: those whose lease has not ended."""
    leases = Call((command("ZCARD", MAIL_LEASES.key(tag=queue.tag)),), lambda replies: int(replies[0]))
    held, expired = await store.run_all(leases, queue.expired_workers())
    return held - len(expired)


async def _no_more(store: Store, queue: MailQueue, job_id: str, outcome: Outcome | None) -> Whereabouts | None:
    dead = next((letter for letter in await store.run(queue.dead_letters()) if letter.id == job_id), None)
    if dead is not None:
        return Whereabouts(job_id, Place.DEAD, dead=dead, outcome=outcome)
    return Whereabouts(job_id, Place.DONE, outcome=outcome) if outcome is not None else None


async def _hands(store: Store, tag: str) -> dict[str, str]:
    """Give the ids in hand, and in whose: also of workers whose lease was ended, until they are reaped."""
    leases = command("ZRANGE", MAIL_LEASES.key(tag=tag), 0, -1), command("ZRANGE", MAIL_GONE.key(tag=tag), 0, -1)
    held, gone = await store.run(Call(leases, tuple))
    workers = [text_of(worker) for worker in dict.fromkeys((*held, *gone))]
    lists = tuple(command("LRANGE", octets(MAIL_TAKEN.key(tag=tag, worker=worker)), 0, -1) for worker in workers)
    hands = await store.run(Call(lists, list))
    return {text_of(job_id): worker for worker, ids in zip(workers, hands, strict=True) for job_id in ids}

"""What `mailer queue` shows: how much waits, where each mail is, why people got none. Nothing personal unasked."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mailer.errors import MailerError
from mailer.reaper import oldest_age
from service_kit.listing import printable, table, utc
from shared_store.dead_letters import DeadJob
from shared_store.mail_jobs import VERSION, glance, is_time
from shared_store.mail_queue import DEAD_KEPT, MailQueue
from shared_store.mail_whereabouts import Place, Whereabouts, count_mailers, find_job, list_jobs
from shared_store.store import Store

# Of a job, what is nobody's secret; anything else is masked, also what a newer auth-api may have added.
SHOWN = frozenset(
    ("v", "event", "id", "locale", "site", "deadline", "expires_in", "trace", "login", "requested_at", "attempts")
) | {"history", "reply_to"}

Queues = Mapping[str, MailQueue]


async def show_depth(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    """Print how much waits in each queue, and who serves it."""
    found = [await _depth(store, tag, queue) for tag, queue in queues.items()]
    if arguments.json:
        print(*map(json.dumps, found), sep="\n")
        return 0
    names = ("queue", "ready", "delayed", "dead", "mailers", "oldest_seconds")
    print(table([name.upper() for name in names], [[str(facts[name]) for name in names] for facts in found]))
    for facts in found:
        tag, in_hand = facts["queue"], facts["in_hand"]
        for worker, number in in_hand.items():
            print(f"in hand of {printable(worker)} ({tag}): {number}")
        if not facts["mailers"] and (facts["ready"] or facts["delayed"] or any(in_hand.values())):
            print(f"NO MAILER serves {tag}: start one, or see in its log what it waits for")
    return 0


async def _depth(store: Store, tag: str, queue: MailQueue) -> dict[str, Any]:
    depth = await queue.depth(store)
    return {
        "queue": tag,
        "ready": depth.ready,
        "delayed": depth.delayed,
        "dead": depth.dead,
        "in_hand": depth.taken,
        "mailers": await count_mailers(store, queue),
        "oldest_seconds": round(await oldest_age(store, queue, await store.run(queue.now())), 1),
    }


async def show_jobs(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    """Print the jobs in hand and those that wait, next first."""
    found = []
    for tag, queue in queues.items():
        now = await store.run(queue.now())
        found += [_facts(tag, job, now) for job in await list_jobs(store, queue, most=arguments.most)]
    if arguments.json:
        for facts in found:
            print(json.dumps(facts))
    elif found:
        names = ("queue", "job", "place", "due_seconds", "age_seconds", "attempts", "site", "domain", "last")
        print(table([name.upper() for name in names], [[_cell(facts[name]) for name in names] for facts in found]))
        if max(Counter((facts["queue"], facts["place"]) for facts in found).values()) >= arguments.most:
            print(f"at most {arguments.most} of each queue and place; mailer queue depth counts all", file=sys.stderr)
    else:
        print("no mail waits")
    return 0


def _facts(tag: str, job: Whereabouts, now: float) -> dict[str, object]:
    """What a list tells of one job; None is what can't be known."""
    values = glance(job.raw)
    requested, history, to = values.get("requested_at"), values.get("history"), values.get("to")
    return {
        "queue": tag,
        "job": job.id,
        "place": job.place,
        "due": job.due,
        "due_seconds": None if job.due is None else round(max(0.0, job.due - now)),
        "worker": job.worker,
        "age_seconds": round(max(0.0, now - requested)) if is_time(requested) and requested else None,
        "attempts": values.get("attempts"),
        "site": values.get("site"),
        "domain": to.rpartition("@")[2] if isinstance(to, str) else None,
        "last": history[-1] if isinstance(history, list) and history else _version(values),
    }


def _version(values: Mapping[str, object]) -> str | None:
    """Say of a job that has not been tried whether a mailer of this version can; None where it can."""
    version = values.get("v")
    if not isinstance(version, int) or version < VERSION:
        return "unreadable"
    return f"version {version}, for a newer mailer" if version > VERSION else None


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value)[:100]


async def find(store: Store, queues: Queues, job_id: str) -> tuple[str, Whereabouts | None]:
    """Look for a job in all queues; with the tag of the one that knows it."""
    for tag, queue in queues.items():
        if (job := await find_job(store, queue, job_id)) is not None:
            return tag, job
    return "", None


async def show_job(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    """Print where a job is and what is in it; 1 where nothing is known of it."""
    if arguments.reveal and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise MailerError("--reveal shows a person's address and code: it works at a terminal only")
    tag, job = await find(store, queues, arguments.job)
    if job is None:
        print(cannot(arguments.job, job), file=sys.stderr)
        return 1
    values: dict[str, object] = {"queue": tag, "place": job.place}
    values |= {"due": utc(job.due)} if job.due is not None else {}
    values |= {"worker": job.worker} if job.worker else {}
    values |= {"outcome": job.outcome} if job.outcome else {}
    if job.dead is not None:
        values |= json.loads(job.dead.to_json())
    elif job.raw is not None:
        content = glance(job.raw) or {"unreadable": len(job.raw)}
        values |= content if arguments.reveal else _masked(content)
    text = json.dumps(values, indent=None if arguments.json else 2, ensure_ascii=False)
    print(text.encode("utf-8", "backslashreplace").decode())  # half a surrogate pair can't be printed, but escaped
    return 0


def _masked(values: Mapping[str, object]) -> dict[str, object]:
    shown = SHOWN | {"unreadable"}
    masked = {name: value if name in shown else "***" for name, value in values.items()}
    to = values.get("to")
    return masked | ({"to": f"{to[:1]}***@{to.rpartition('@')[2]}"} if isinstance(to, str) else {})


def cannot(job_id: str, job: Whereabouts | None) -> str:
    """Say where a job is that was not found where it was looked for."""
    match job:
        case Whereabouts(place=Place.IN_HAND, worker=worker):
            return f"{worker} has it in hand: what became of it is known in a moment"
        case Whereabouts(place=Place.BEHIND):
            return "an older mail of the same login is in a mailer's hand: this one goes as soon as that is done with"
        case Whereabouts(place=Place.DEAD, dead=DeadJob(reason=reason, time=time)):
            return (
                f"it was given up at {utc(time)} ({reason}). Its address and code are gone with it, so it can't be "
                "sent again; its login page offers another mail for as long as the login lasts"
            )
        case Whereabouts(place=Place.DONE, outcome=outcome):
            return f"it is done: {outcome}"
        case Whereabouts(place=place):
            return f"it is {place}"
        case _:
            return f"no job {job_id!r}: it was sent more than two minutes ago, was dropped, or the id is another"


async def show_dead(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    """Print the jobs given up, the newest last, and then how many for which reason."""
    letters = [(tag, letter) for tag, queue in queues.items() for letter in await store.run(queue.dead_letters())]
    if arguments.json:
        for tag, letter in letters:
            print(json.dumps({"queue": tag, **json.loads(letter.to_json())}))
        return 0
    if not letters:
        print("no mail was given up")
        return 0
    newest = sorted((letter for _, letter in letters), key=lambda letter: letter.time)[-arguments.most :]
    heads = ("TIME", "JOB", "REASON", "ATTEMPTS", "SITE", "TO", "LAST ANSWER")
    print(table(heads, [_line(letter) for letter in newest]))
    print(f"\n{_summary([letter for _, letter in letters])}")
    if len(letters) >= DEAD_KEPT:
        print(f"the newest {DEAD_KEPT} of each queue are kept; mailer_given_up_total counts all", file=sys.stderr)
    return 0


def _line(letter: DeadJob) -> tuple[str, ...]:
    last = letter.history[-1] if letter.history else ""
    return (
        _time(letter.time), letter.id, letter.reason, str(letter.attempts),
        *(_cell(text) for text in (letter.site, letter.domain, last)),
    )  # fmt: skip


def _time(time: float) -> str:
    return utc(time) if time else "-"


def _summary(letters: Sequence[DeadJob]) -> str:
    """How many were given up for which reason and after which answer, most first, and between which times."""
    kinds: dict[tuple[str, str], list[float]] = {}
    for letter in letters:
        kinds.setdefault((letter.reason, letter.history[-1] if letter.history else ""), []).append(letter.time)
    lines = [
        (str(len(times)), reason, _time(min(times)), _time(max(times)), _cell(last))
        for (reason, last), times in sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    ]
    return table(("COUNT", "REASON", "FIRST", "LAST", "LAST ANSWER"), lines)

"""`mailer queue`: looks into the queue (`queue_looks`) and mends it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Sequence

from mailer.errors import MailerError
from mailer.queue_looks import Queues, cannot, find, show_dead, show_depth, show_job, show_jobs
from mailer.settings import SERVICE, Settings, StoreSettings
from service_kit.cli import Cli, accept_config
from service_kit.settings import Loaded
from shared_store.commands import Call
from shared_store.errors import StoreError
from shared_store.mail_queue import MailQueue
from shared_store.mail_shards import MOST_SHARDS, queue_tags, tags_with
from shared_store.store import Store

MOST_LISTED = 100_000
AT_ONCE = 500  # jobs brought forward in one round trip
VERBS = {
    "depth": "how much waits, is in hand, is dead",
    "list": "jobs in hand and jobs that wait, next first",
    "show": "one job: where it is, and what is in it, personal data masked",
    "retry": "try a delayed job now, or all of them",
    "drop": "remove a job that waits",
    "dead": "jobs given up, and how many for which reason; none can be sent again: address and code are gone",
    "purge": "forget the jobs given up",
}

Verb = Callable[[Store, Queues, argparse.Namespace], Awaitable[int]]


def add_queue_commands(cli: Cli[Settings]) -> None:
    """Add them to the command line."""
    queue = cli.add_command_reading(StoreSettings, "queue", look_at_queue, help="look into the queue and mend it")
    queue.add_argument("--json", action="store_true", help="for machines: one object a line")
    verbs = queue.add_subparsers(dest="verb", metavar="VERB")
    queue.set_defaults(verb="depth")
    for verb, about in VERBS.items():
        parser = verbs.add_parser(verb, help=about, description=about)
        if verb in ("show", "drop"):
            parser.add_argument("job", metavar="ID")
        if verb == "retry":
            which = parser.add_mutually_exclusive_group(required=True)
            which.add_argument("job", metavar="ID", nargs="?")
            which.add_argument("--all", action="store_true", help="every delayed job: once a mail server is back")
        if verb == "show":
            parser.add_argument("--reveal", action="store_true", help="at a terminal: with address, code and link")
        if verb in ("list", "dead"):
            parser.add_argument(
                "--most", type=_count, default=20, metavar="N", help="show so many (20), of each queue and place"
            )
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for machines")
        accept_config(parser)


async def look_at_queue(loaded: Loaded[StoreSettings], arguments: argparse.Namespace) -> int:
    """Do what the verb says; 1 where there is no such job."""
    verbs: dict[str, Verb] = {
        "depth": show_depth,
        "list": show_jobs,
        "show": show_job,
        "retry": _retry,
        "drop": _drop,
        "dead": show_dead,
        "purge": _purge,
    }
    async with Store.of(loaded.settings, client_name=SERVICE) as store:
        try:
            queues = await _queues(store, loaded.settings.mail_queue_shards)
            return await verbs[arguments.verb](store, queues, arguments)
        except StoreError as error:
            raise MailerError(str(error)) from error


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_LISTED):
        raise argparse.ArgumentTypeError(f"{text} is not a count from 1 to {MOST_LISTED}")
    return int(text)


async def _queues(store: Store, shards: int) -> Queues:
    """The queues by their tags: those of the settings, and any other in which something lies."""
    own = queue_tags(shards)
    others = [tag for tag in queue_tags(MOST_SHARDS) if tag not in own]
    return {tag: MailQueue(tag) for tag in (*own, *await store.run(tags_with(others, dead=True)))}


async def _retry(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    if arguments.all:
        return await _retry_all(store, queues, arguments)
    return await _change(store, queues, arguments, [queue.retry_now(arguments.job) for queue in queues.values()])


async def _retry_all(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    number = 0
    for queue in queues.values():
        depth = await queue.depth(store)
        waiting = await store.run(queue.waiting(most=max(1, depth.delayed)))
        # The last one goes first.
        calls = [queue.retry_now(name) for name, due in reversed(waiting) if due is not None]
        for start in range(0, len(calls), AT_ONCE):
            number += sum(await store.run_all(*calls[start : start + AT_ONCE]))
    print(json.dumps({"retried": number}) if arguments.json else f"{number} brought forward")
    return 0


async def _drop(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    return await _change(store, queues, arguments, [queue.drop(arguments.job) for queue in queues.values()])


async def _change(store: Store, queues: Queues, arguments: argparse.Namespace, calls: Sequence[Call[bool]]) -> int:
    """Do it in whichever queue the job is; where it is in none that way, say where it is."""
    for call in calls:
        if await store.run(call):
            print(json.dumps({"job": arguments.job, "done": True}) if arguments.json else "done")
            return 0
    _, job = await find(store, queues, arguments.job)
    print(cannot(arguments.job, job), file=sys.stderr)
    return 1


async def _purge(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    for tag, queue in queues.items():
        number = await store.run(queue.purge_dead())
        print(json.dumps({"queue": tag, "purged": number}) if arguments.json else f"{tag}: {number} forgotten")
    return 0

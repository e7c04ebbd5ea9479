"""What the mailer does besides running: queue, render, send-test, transports. Shows nothing personal unasked."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import webbrowser
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from mailer.composition import make_delivery, open_renderer, open_store, open_transports
from mailer.errors import MailerError
from mailer.lease import ServerClock
from mailer.metrics import Metrics
from mailer.reaper import oldest_age
from mailer.rendering import LOCALES
from mailer.settings import SERVICE, Settings
from mailer.verdicts import Kind
from service_kit.cli import Cli
from service_kit.settings import Loaded
from shared_store.commands import Call
from shared_store.connection import ConnectionOptions
from shared_store.doctor import report
from shared_store.errors import StoreError
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.mail_queue import MailQueue
from shared_store.mail_shards import MOST_SHARDS, queue_tags, tags_with
from shared_store.store import Store

LISTED = 100
# Of a job, what is nobody's secret; anything else is masked, also what a newer auth-api may have added.
SHOWN = frozenset(
    ("v", "event", "id", "locale", "site", "deadline", "expires_in", "trace", "login", "requested_at", "attempts")
) | {"history", "reply_to"}
VERBS = {
    "depth": "how much waits, is in hand, is dead",
    "list": "jobs that wait, next first",
    "show": "one job, its personal data masked",
    "retry": "try a delayed job now",
    "drop": "remove a job that waits",
    "dead": "jobs given up, with the reason",
    "purge": "forget the jobs given up",
}

Queues = Mapping[str, MailQueue]
Verb = Callable[[Store, Queues, argparse.Namespace], Awaitable[int]]


def add_commands(cli: Cli[Settings]) -> None:
    """Add all of them to the command line."""
    queue = cli.add_command("queue", look_at_queue, help="look into the queue and mend it")
    queue.add_argument("--json", action="store_true", help="for machines")
    verbs = queue.add_subparsers(dest="verb", metavar="VERB")
    queue.set_defaults(verb="depth")
    for verb, about in VERBS.items():
        parser = verbs.add_parser(verb, help=about, description=about)
        if verb in ("show", "retry", "drop"):
            parser.add_argument("job", metavar="ID")
        if verb == "show":
            parser.add_argument("--reveal", action="store_true", help="at a terminal: with address, code and link")
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for machines")
    rendering = cli.add_command("render", render, help="show the mail with made-up facts")
    rendering.add_argument("--locale", choices=LOCALES, default="en")
    rendering.add_argument("--html", action="store_true", help="print the HTML part instead of the text part")
    rendering.add_argument("--open", action="store_true", help="open the HTML part in a browser")
    testing = cli.add_command("send-test", send_test, help="send a mail with made-up facts")
    testing.add_argument("address", metavar="ADDRESS")
    testing.add_argument("--locale", choices=LOCALES, default="en")
    examining = cli.add_command("doctor", examine_store, help="examine Redis; ends with 1 for warnings, 2 for errors")
    examining.add_argument("--json", action="store_true", help="for machines")
    cli.add_command("transports", check_transports, help="check each transport without sending")


async def look_at_queue(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Do what the verb says; 1 where there is no such job."""
    verbs: dict[str, Verb] = {
        "depth": _depth,
        "list": _list,
        "show": _show,
        "retry": _retry,
        "drop": _drop,
        "dead": _dead,
        "purge": _purge,
    }
    async with open_store(loaded.settings) as store:
        try:
            queues = await _queues(store, loaded.settings.mail_queue_shards)
            return await verbs[arguments.verb](store, queues, arguments)
        except StoreError as error:
            raise MailerError(str(error)) from error


async def _queues(store: Store, shards: int) -> Queues:
    """The queues by their tags: those of the settings, and any other in which something lies."""
    own = queue_tags(shards)
    others = [tag for tag in queue_tags(MOST_SHARDS) if tag not in own]
    return {tag: MailQueue(tag) for tag in (*own, *await store.run(tags_with(others, dead=True)))}


async def _depth(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    for tag, queue in queues.items():
        depth = await queue.depth(store)
        facts = {
            "queue": tag,
            "ready": depth.ready,
            "delayed": depth.delayed,
            "dead": depth.dead,
            "in_hand": depth.taken,
            "oldest_seconds": round(await oldest_age(store, queue, ServerClock().now()), 1),
        }
        if arguments.json:
            print(json.dumps(facts))
        else:
            print(*(f"{name:15} {value}" for name, value in facts.items() if name != "in_hand"), sep="\n")
            print(*(f"in hand of {worker}: {count}" for worker, count in depth.taken.items()), sep="\n")
    return 0


async def _list(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    for tag, queue in queues.items():
        for job_id, due in await store.run(queue.waiting(most=LISTED)):
            if arguments.json:
                print(json.dumps({"queue": tag, "job": job_id, "due": due}))
            else:
                print(job_id, "ready" if due is None else f"in {max(0.0, due - time.time()):.0f} s")
    return 0


async def _show(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    if arguments.reveal and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise MailerError("--reveal shows a person's address and code: it works at a terminal only")
    for queue in queues.values():
        raw = await store.run(queue.show(arguments.job))
        if raw is not None:
            shown = _read(raw) if arguments.reveal else _masked(_read(raw))
            print(json.dumps(shown, indent=None if arguments.json else 2, ensure_ascii=False))
            return 0
    return _unknown(arguments.job)


def _read(raw: bytes) -> dict[str, object]:
    try:
        return dict(json.loads(raw))
    except (ValueError, TypeError, RecursionError):
        return {"unreadable": len(raw)}


def _masked(values: dict[str, object]) -> dict[str, object]:
    shown = SHOWN | {"unreadable"}
    masked = {name: value if name in shown else "***" for name, value in values.items()}
    to = values.get("to")
    return masked | ({"to": f"{to[:1]}***@{to.rpartition('@')[2]}"} if isinstance(to, str) else {})


async def _retry(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    return await _first(store, arguments, [queue.retry_now(arguments.job) for queue in queues.values()])


async def _drop(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    return await _first(store, arguments, [queue.drop(arguments.job) for queue in queues.values()])


async def _first(store: Store, arguments: argparse.Namespace, calls: list[Call[bool]]) -> int:
    for call in calls:
        if await store.run(call):
            print(json.dumps({"job": arguments.job, "done": True}) if arguments.json else "done")
            return 0
    return _unknown(arguments.job)


def _unknown(job: str) -> int:
    print(f"no job {job} waits: it may be in a mailer's hand, sent, or dead", file=sys.stderr)
    return 1


async def _dead(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    for queue in queues.values():
        for dead in await store.run(queue.dead_letters()):
            if arguments.json:
                print(dead.to_json())
            else:
                when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(dead.time))
                print(when, dead.id, dead.reason, f"attempts={dead.attempts}", dead.site, *dead.history[-1:])
    return 0


async def _purge(store: Store, queues: Queues, arguments: argparse.Namespace) -> int:
    for tag, queue in queues.items():
        there = await store.run(queue.purge_dead())
        if arguments.json:
            print(json.dumps({"queue": tag, "purged": bool(there)}))
    return 0


async def examine_store(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Print what the doctor finds; 0 where all is fine, 1 for warnings, 2 for errors."""
    url, options = loaded.settings.redis_url, ConnectionOptions.of(loaded.settings, client_name=SERVICE)
    text, code = await report(url.get_secret_value(), options, services=(SERVICE,), as_json=arguments.json)
    print(text)
    return code


def sample_job(*, to: str, locale: str) -> MailJob:
    """A job with made-up facts."""
    now = time.time()
    return MailJob(
        id=new_job_id(),
        to=to,
        locale=locale,
        site="https://shop.example",
        link="https://login.example/confirm?session=made-up&code=abcdef134567",
        code="abcdef134567",
        deadline=now + 780,
        expires_in=900,
        requested_at=now,
    )


async def render(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Print the mail, or open it."""
    job = sample_job(to="jane@example.org", locale=arguments.locale)
    mail = open_renderer(loaded.settings).render(job, now=job.requested_at)
    if arguments.open:
        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as file:
            file.write(mail.html)
        print(file.name)
        webbrowser.open(Path(file.name).as_uri())
    else:
        print(f"Subject: {mail.subject}\n")
        print(mail.html if arguments.html else mail.text)
    return 0


async def send_test(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Send a mail at once, past the queue; 1 where it was not accepted."""
    job = sample_job(to=arguments.address, locale=arguments.locale)
    mail = open_renderer(loaded.settings).render(job, now=job.requested_at)
    bound = loaded.settings.send_email_timeout
    async with open_transports(loaded.settings) as transports:
        delivery = make_delivery(loaded.settings, transports, Metrics(CollectorRegistry()))
        verdict = await delivery.attempt(mail, bound=bound, within=bound * len(transports))
    print(f"{verdict.kind.value} ({verdict.transport}: {verdict.reason})")
    return 0 if verdict.kind is Kind.DELIVERED else 1


async def check_transports(loaded: Loaded[Settings], _arguments: argparse.Namespace) -> int:
    """Check each transport; 1 where one doesn't work."""
    failed = 0
    async with open_transports(loaded.settings) as transports:
        for transport in transports:
            try:
                print(f"{transport.name}: {await transport.check()}")
            except MailerError as error:
                print(error, file=sys.stderr)
                failed = 1
    return failed

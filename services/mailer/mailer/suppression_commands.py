"""`mailer suppressions`: the addresses that are not mailed, as an operator sees and changes them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable

from mailer.errors import MailerError
from mailer.recipients import parse_recipient
from mailer.settings import SERVICE, Settings, StoreSettings
from service_kit.cli import Cli, accept_config
from service_kit.settings import Loaded
from shared_store.errors import StoreError
from shared_store.store import Store
from shared_store.suppressions import Reason, Suppression, Suppressions

VERBS = {
    "list": "addresses that are not mailed, by their digests, newest first; with ADDRESS, that one",
    "lift": "mail an address again",
    "add": "mail an address no more",
}

Verb = Callable[[Store, Suppressions, argparse.Namespace], Awaitable[int]]


def add_suppression_commands(cli: Cli[Settings]) -> None:
    """Add them to the command line."""
    command = cli.add_command_reading(
        StoreSettings, "suppressions", look_at_suppressions, help="see and change which addresses get no mail"
    )
    verbs = command.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, about in VERBS.items():
        parser = verbs.add_parser(verb, help=about, description=about)
        parser.add_argument("address", metavar="ADDRESS", nargs="?" if verb == "list" else None)
        if verb == "list":
            parser.add_argument("--json", action="store_true", help="for machines")
        accept_config(parser)


async def look_at_suppressions(loaded: Loaded[StoreSettings], arguments: argparse.Namespace) -> int:
    """Do what the verb says; 1 where there is no such address."""
    key = loaded.settings.suppression_key
    if key is None:
        raise MailerError("suppression_key is not set, so no address is ever left out; see docs/mail-bounces.md")
    suppressions = Suppressions(key.get_secret_value(), life=loaded.settings.suppression_ttl)
    verbs: dict[str, Verb] = {"list": _list, "lift": _lift, "add": _add}
    async with Store.of(loaded.settings, client_name=SERVICE) as store:
        try:
            return await verbs[arguments.verb](store, suppressions, arguments)
        except StoreError as error:
            raise MailerError(str(error)) from error


async def _list(store: Store, suppressions: Suppressions, arguments: argparse.Namespace) -> int:
    listed = await suppressions.all(store)
    if arguments.address is not None:
        wanted = suppressions.digest(_normalized(arguments.address))
        listed = [entry for entry in listed if entry.digest == wanted]
    for entry in listed:
        print(_as_json(entry) if arguments.json else _as_line(entry))
    return 1 if arguments.address is not None and not listed else 0


def _as_json(entry: Suppression) -> str:
    return json.dumps(
        {
            "digest": entry.digest,
            "reason": entry.reason,
            "source": entry.source,
            "since": entry.since,
            "seconds_left": round(entry.seconds_left),
        }
    )


def _as_line(entry: Suppression) -> str:
    since = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(entry.since))
    return f"{entry.digest} {entry.reason} ({entry.source}) since {since}, {entry.seconds_left / 86400:.1f} days left"


async def _lift(store: Store, suppressions: Suppressions, arguments: argparse.Namespace) -> int:
    if await store.run(suppressions.lift(_normalized(arguments.address))):
        print("done: the address is mailed again")
        return 0
    print("this address is not among them; it is mailed", file=sys.stderr)
    return 1


async def _add(store: Store, suppressions: Suppressions, arguments: argparse.Namespace) -> int:
    entry = (_normalized(arguments.address), Reason.OPERATOR)
    await store.run(suppressions.add([entry], source="operator", now=time.time()))
    print("done: the address is not mailed")
    return 0


def _normalized(text: str) -> str:
    """The address in the form that mail jobs carry it in."""
    domain = parse_recipient(text).address.rpartition("@")[2]
    return f"{text.rpartition('@')[0]}@{domain}".lower()

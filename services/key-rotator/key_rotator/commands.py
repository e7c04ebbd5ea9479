"""What key-rotator does besides running: status, log, rotate, reseal, export, and `importing` and `revoking`."""

from __future__ import annotations

import argparse
import contextlib
import functools
import getpass
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial

from key_rotator.composition import open_keeper
from key_rotator.errors import KeyFileError, KeyRotatorError, TooEarlyError
from key_rotator.importing import import_keys
from key_rotator.keeper import LOCK_WAIT, Change, KeyKeeper
from key_rotator.key_files import ROLES, STANDARD, to_export, write_key_file
from key_rotator.listing import as_json, note, rows
from key_rotator.policy import Situation, Step, next_may_sign, rotation_due
from key_rotator.revoking import revoke_keys
from key_rotator.settings import SERVICE, Settings
from service_kit.cli import Cli
from service_kit.listing import table, utc
from service_kit.settings import Loaded
from shared_store.doctor import report
from shared_store.errors import StoreError
from shared_store.notices import Notices
from shared_store.signing_keys import SIGNING_ALGS
from shared_store.store import Store

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")

Body = Callable[[Settings, KeyKeeper, argparse.Namespace], Awaitable[int]]


def add_commands(cli: Cli[Settings]) -> None:
    """Add all of them to the command line."""
    status = cli.add_command("status", _command(show_status), help="show the keys: role, key id, fingerprint, times")
    status.add_argument("--json", action="store_true", help="for machines")
    rotate = cli.add_command("rotate", _command(rotate_keys), help="let the next key sign from now on")
    rotate.add_argument("--alg", choices=SIGNING_ALGS, help="only this algorithm's keys")
    rotate.add_argument("--now", action="store_true", help="even if relying parties may not know the next key yet")
    revoke = cli.add_command(
        "revoke",
        _command(revoke_keys),
        help="in an emergency: take keys out of keys.json at once, and sign with others",
    )
    revoke.add_argument("kid", nargs="*", metavar="KID", help="ids of the keys, see `status`")
    revoke.add_argument("--all", action="store_true", help="all keys, where whoever read Redis may have them")
    revoke.add_argument("--reason", default="", metavar="TEXT", help="for the log of key events")
    logs = cli.add_command("log", _command(show_log), help="show what happened to the keys, and who did it")
    logs.add_argument("--most", type=_count, default=20, metavar="N", help="the N newest events of each algorithm (20)")
    logs.add_argument("--json", action="store_true", help="for machines")
    examining = cli.add_command("doctor", examine_store, help="examine Redis; ends with 1 for warnings, 2 for errors")
    examining.add_argument("--json", action="store_true", help="for machines")
    cli.add_command("reseal", _command(reseal_keys), help="seal the keys anew after key_encryption_key has changed")
    importing = cli.add_command(
        "import", _command(import_keys), help="use private keys of a PEM file or another broker"
    )
    importing.add_argument("file", nargs="?", metavar="FILE", help="PEM file, - for standard input")
    importing.add_argument("--from-redis", metavar="URL", help="adopt the keys of a Rust Portier Broker from its Redis")
    importing.add_argument("--dry-run", action="store_true", help="show what would be done and write nothing")
    importing.add_argument("--force", action="store_true", help="replace keys in Redis even if they can't be read")
    exporting = cli.add_command("export", _command(export_keys), help="write the private keys to a PEM file")
    exporting.add_argument("file", metavar="FILE", help="new file, - for standard output")
    exporting.add_argument("--force", action="store_true", help="replace the file if it is there")


def ids_behind_options(arguments: Sequence[str]) -> list[str]:
    """Move ids of keys (RFC 7638 thumbprints) behind `--`: one in 64 begins with a dash and is no option."""
    ids = [word for word, before in zip(arguments, ("", *arguments), strict=False) if _is_id(word, before)]
    if "--" in arguments or not any(word.startswith("-") for word in ids):
        return [*arguments]
    return [*(word for word in arguments if word not in ids), "--", *ids]


def _is_id(word: str, before: str) -> bool:
    return before != "--reason" and _KEY_ID.fullmatch(word) is not None


async def examine_store(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Print what the doctor finds; 0 where all is fine, 1 for warnings, 2 for errors."""
    open_store = partial(Store.of, loaded.settings, client_name=SERVICE)
    text, code = await report(open_store, services=(SERVICE,), as_json=arguments.json)
    print(text)
    return code


async def show_status(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> int:
    """Print the keys of each algorithm; 1 where one has none."""
    situations = {alg: await keeper.look(alg) for alg in settings.signing_algs}
    key_sets = {alg: situation.stored for alg, situation in situations.items()}
    if arguments.json:
        now = max(situation.now for situation in situations.values())
        print(json.dumps(as_json(key_sets, settings.policy, time=now), indent=2))
    else:
        lines = [
            (row.alg, row.role, row.kid, row.fingerprint, row.begins, row.ends)
            for key_set in key_sets.values()
            if key_set is not None
            for row in rows(key_set)
        ]
        print(table(("ALG", "ROLE", "KID", "FINGERPRINT", "FROM", "UNTIL"), lines))
    missing = [alg for alg, key_set in key_sets.items() if key_set is None]
    if missing:
        note(f"there are no {' and no '.join(missing)} keys: is a key-rotator running?")
    return 1 if missing else 0


async def rotate_keys(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> int:
    """Rotate now; 1 where an algorithm's next key is too young and --now is not given."""
    if arguments.alg is not None and arguments.alg not in settings.signing_algs:
        raise KeyRotatorError(f"{arguments.alg} is not in signing_algs: nothing was rotated")
    code = 0
    for alg in settings.signing_algs if arguments.alg is None else (arguments.alg,):
        try:
            change = Change(_forced(keeper, even_early=arguments.now))
            changed = await keeper.change(alg, change, wait=LOCK_WAIT)
        except TooEarlyError as error:
            note(str(error))
            code = 1
            continue
        if changed is not None:
            step, key_set = changed
            due = utc(rotation_due(key_set, keeper.policy))
            made = "there were no keys, so the first ones were made; " if step is Step.CREATE else ""
            print(f"{alg}: {made}{key_set.current.key.kid} signs from now on; the next rotation is due at {due}")
    return code


def _forced(keeper: KeyKeeper, *, even_early: bool) -> Callable[[Situation], Step]:
    def decide(situation: Situation) -> Step:
        if situation.stored is None:
            return Step.CREATE
        known_from = next_may_sign(situation.stored, keeper.policy)
        if situation.now < known_from and not even_early:
            raise TooEarlyError(
                f"{situation.alg}: not rotated. Relying parties may not know the next key before {utc(known_from)}; "
                "try again then, or give --now and accept that some will refuse tokens until they fetch keys.json"
            )
        return Step.ROTATE

    return decide


async def show_log(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> int:
    """Print what happened to the keys, the newest first."""
    found = [(alg, event) for alg in settings.signing_algs for event in await keeper.logged(alg, most=arguments.most)]
    found.sort(key=lambda pair: pair[1].time, reverse=True)
    if arguments.json:
        print(json.dumps([{"time": utc(it.time), "alg": alg, **asdict(it.event)} for alg, it in found], indent=2))
        return 0
    heads = ("TIME", "ALG", "CHANGE", "SIGNS AFTER IT", "BY", "DETAIL")
    print(
        table(
            heads,
            [
                (utc(it.time), alg, it.event.change, it.event.kid or "-", it.event.by, it.event.detail)
                for alg, it in found
            ],
        )
    )
    return 0


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count of 1 or more")
    return int(text)


async def reseal_keys(settings: Settings, keeper: KeyKeeper, _: argparse.Namespace) -> int:
    """Write the keys again, sealed under the first key-encryption key, where they are not."""

    def decide(situation: Situation) -> Step | None:
        stored = situation.stored
        return None if stored is None or stored.sealed_as_configured else Step.RESEAL

    for alg in settings.signing_algs:
        changed = await keeper.change(alg, Change(decide), wait=LOCK_WAIT)
        print(f"{alg}: {'sealed as configured already' if changed is None else 'sealed anew'}")
    return 0


async def export_keys(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> int:
    """Write current, next and previous of each algorithm as PEM."""
    key_sets = [(await keeper.look(alg)).stored for alg in settings.signing_algs]
    keys = [key for key_set in key_sets if key_set is not None for key in to_export(key_set)]
    if not keys:
        raise KeyFileError("there are no keys to export")
    # Logged first: private keys that leave without a trace are worse than an entry for an export that failed.
    for alg in settings.signing_algs:
        await keeper.log_event(
            alg, "export", detail=f"to {'standard output' if arguments.file == STANDARD else 'a file'}"
        )
    write_key_file(arguments.file, keys, force=arguments.force)
    note(f"{len(keys)} private keys exported, per algorithm: {', '.join(ROLES)}. Expiries are not in the file.")
    return 0


def _command(body: Body) -> Callable[[Loaded[Settings], argparse.Namespace], Awaitable[int]]:
    """Give a command its keeper, and turn failures into a line on standard error and exit code 1."""

    @functools.wraps(body)
    async def run(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
        if loaded.settings.has_manual_keys:
            note("warning: keyfiles or keytext are set, so auth-api signs with those and not with keys in Redis")
        try:
            async with _keeper(loaded.settings) as keeper:
                return await body(loaded.settings, keeper, arguments)
        except (KeyRotatorError, StoreError) as error:
            note(str(error))
            return 1

    return run


@contextlib.asynccontextmanager
async def _keeper(settings: Settings) -> AsyncIterator[KeyKeeper]:
    async with Store.of(settings, client_name=SERVICE) as store:
        # No task follows the notices here: a wait for a lock looks every 2 s as well.
        yield open_keeper(settings, store, Notices(store), actor=_person())


def _person() -> str:
    """Name who runs a command, for the log of key events: the user by name or number, and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"

"""`key-rotator import`: keys of a file, or of another broker, in the place of those in Redis."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

from key_rotator.adoption import adopted, missing_keys, read_rust_broker
from key_rotator.errors import KeyFileError, RevocationError
from key_rotator.keeper import KeyKeeper
from key_rotator.key_files import Block, read_key_file
from key_rotator.listing import note, rows
from key_rotator.policy import Situation, new_key_set
from key_rotator.settings import SERVICE, Settings
from service_kit.listing import table
from shared_store.connection import ConnectionOptions
from shared_store.errors import CorruptRecord
from shared_store.key_sets import KeySet
from shared_store.sealing import SealError
from shared_store.signing_keys import SigningAlg

NEW, KEPT = "new", "-"


@dataclass(frozen=True, slots=True)
class Import:
    """A key set to write, the version that it is to replace, and by kid where its keys are from."""

    key_set: KeySet
    expected_version: int | None
    origins: dict[str, str]

    def lines(self) -> list[tuple[str, ...]]:
        """Tell each key's position, algorithm, role, fingerprint and expiry."""
        return [
            (self.origins.get(row.kid, KEPT), row.alg, row.role, row.fingerprint, row.ends)
            for row in rows(self.key_set)
        ]


async def import_keys(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> int:
    """Import from a file or from a Rust broker's Redis; all is read and judged before anything is written."""
    if (arguments.file is None) == (arguments.from_redis is None):
        raise KeyFileError("what is to be imported? Name a FILE, or give --from-redis URL")
    if arguments.file is not None:
        imports, skipped = await _from_file(settings, keeper, arguments)
        note("expiries are not part of a PEM file: they start anew")
    else:
        imports, skipped = await _from_redis(settings, keeper, arguments), ()
    for found in imports:
        _refuse_revoked(found.key_set)
    lines: list[tuple[str, ...]] = [
        (str(block.position), block.key.alg, "skipped", "", f"{block.key.alg} is not in signing_algs")
        for block in skipped
    ]
    lines += [line for found in imports for line in found.lines()]
    print(table(("KEY", "ALG", "ROLE", "FINGERPRINT", "UNTIL"), lines))
    if arguments.dry_run:
        print("Nothing was written (--dry-run).")
        return 0
    for found in imports:
        await keeper.write(
            found.key_set, expected_version=found.expected_version, change="import", detail=_source(arguments)
        )
    print("Imported.")
    return 0


def _source(arguments: argparse.Namespace) -> str:
    return "from a file" if arguments.file is not None else "from another broker's Redis"


def _refuse_revoked(key_set: KeySet) -> None:
    """Make sure that no key comes back that was revoked.

    Raises:
        RevocationError: one would.
    """
    if back := sorted({published.key.kid for published in key_set.published()}.intersection(key_set.revoked)):
        was, it = ("was", "it") if len(back) == 1 else ("were", "them")
        raise RevocationError(f"nothing was imported: {' and '.join(back)} {was} revoked, and others may have {it}")


async def _from_file(
    settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace
) -> tuple[list[Import], tuple[Block, ...]]:
    file = read_key_file(arguments.file, settings.signing_algs)
    imports = []
    for alg, blocks in file.keys.items():
        situation, expected_version = await _look_at_what_goes(keeper, alg, force=arguments.force)
        keys = [block.key for block in blocks]
        if len(keys) == 1:
            keys += await keeper.make_keys(alg, 1)
        current, following, *rest = keys
        previous = rest[0] if rest else None
        key_set = new_key_set(situation, keeper.policy, current=current, following=following, previous=previous)
        origins = {following.kid: NEW} | {block.key.kid: str(block.position) for block in blocks}
        imports.append(Import(key_set, expected_version, origins))
    return imports, file.skipped


async def _from_redis(settings: Settings, keeper: KeyKeeper, arguments: argparse.Namespace) -> list[Import]:
    # Our own password, which may lie in a file, is not theirs.
    options = replace(ConnectionOptions.of(settings, client_name=SERVICE), url_file=None)
    sets = await read_rust_broker(arguments.from_redis, options, settings.signing_algs)
    imports = []
    for alg, rust in sets.items():
        situation, expected_version = await _look_at_what_goes(keeper, alg, force=arguments.force)
        new = await keeper.make_keys(alg, missing_keys(rust))
        key_set = adopted(rust, situation, keeper.policy, new)
        origins = {key.kid: NEW for key in new}
        origins |= {key.key.kid: "theirs" for key in (rust.current, rust.next) if key is not None}
        if rust.previous is not None:
            origins[rust.previous.kid] = "theirs"
        imports.append(Import(key_set, expected_version, origins))
    return imports


async def _look_at_what_goes(keeper: KeyKeeper, alg: SigningAlg, *, force: bool) -> tuple[Situation, int | None]:
    """Read what is to be replaced, and tell which version to expect when writing."""
    try:
        situation = await keeper.look(alg)
    except (CorruptRecord, SealError) as error:
        if not force:
            raise KeyFileError(
                f"nothing was imported: {error}. To replace those keys all the same, give --force"
            ) from error
        return Situation(alg, time.time(), None), None
    return situation, situation.version

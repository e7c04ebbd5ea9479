"""Private keys from and to PEM files: which block gets which role, and files that only their owner may read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from key_rotator.errors import KeyFileError
from shared_store.key_sets import KeySet
from shared_store.signing_keys import MAX_PEM_LENGTH, SigningAlg, SigningKey, UnreadableBlock, parse_pem

STANDARD = "-"  # standard input or output in place of a file
ROLES = ("current", "next", "previous")


@dataclass(frozen=True, slots=True)
class Block:
    """A key of a file and its position there, from 1."""

    position: int
    key: SigningKey


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a file gives: by algorithm its keys in the order of `ROLES`, and those of algorithms not in use."""

    keys: dict[SigningAlg, tuple[Block, ...]]
    skipped: tuple[Block, ...]


def read_key_file(name: str, algs: Sequence[SigningAlg]) -> KeyFile:
    """Read a file of keys; `-` is standard input.

    Raises:
        KeyFileError: it can't be used; the message names every block that is why.
    """
    return sort_keys(parse_pem(_read(name)), algs)


def sort_keys(blocks: Sequence[SigningKey | UnreadableBlock], algs: Sequence[SigningAlg]) -> KeyFile:
    """Give each key its role: of each algorithm the first is current, the second next, the third previous.

    Raises:
        KeyFileError: a block can't be read, there are too many keys or the same one twice, or none to use.
    """
    if unreadable := [block for block in blocks if isinstance(block, UnreadableBlock)]:
        reasons = "; ".join(f"block {block.position}: {block.reason}" for block in unreadable)
        raise KeyFileError(f"nothing was imported: {reasons}")
    keys = [Block(position, key) for position, key in enumerate(blocks, 1) if isinstance(key, SigningKey)]
    seen: dict[str, int] = {}
    for block in keys:
        if (first := seen.setdefault(block.key.kid, block.position)) != block.position:
            raise KeyFileError(f"nothing was imported: blocks {first} and {block.position} are the same key")
    by_alg = {alg: tuple(block for block in keys if block.key.alg == alg) for alg in algs}
    for alg, blocks_of_alg in by_alg.items():
        if len(blocks_of_alg) > len(ROLES):
            raise KeyFileError(
                f"nothing was imported: block {blocks_of_alg[3].position} is a fourth {alg} key; there can be three, "
                "for current, next and previous"
            )
    used = {alg: blocks_of_alg for alg, blocks_of_alg in by_alg.items() if blocks_of_alg}
    if not used:
        raise KeyFileError(f"nothing was imported: there is no {' or '.join(algs)} key in it")
    return KeyFile(used, tuple(block for block in keys if block.key.alg not in algs))


def to_export(key_set: KeySet) -> tuple[SigningKey, ...]:
    """Give the keys that a file can hold for one algorithm: current, next, and the newest of the retired."""
    return tuple(published.key for published in key_set.published())[: len(ROLES)]


def write_key_file(name: str, keys: Sequence[SigningKey], *, force: bool) -> None:
    """Write keys as PEM to a file of mode 0600; `-` is standard output. `force` replaces a file that is there.

    Raises:
        KeyFileError: it can't be written, or is there already.
    """
    text = "".join(key.private_pem for key in keys)
    if name == STANDARD:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path = Path(name)
    try:
        if force and path.is_file():
            beside = path.with_name(f".{path.name}.{os.getpid()}")
            _write_new(beside, text)
            beside.replace(path)
        else:
            _write_new(path, text)
    except FileExistsError:
        raise KeyFileError(f"{name} is there already: name another file, or give --force to replace it") from None
    except OSError as error:
        raise KeyFileError(f"{name} can't be written: {error.strerror}") from None


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a Path opens no descriptor
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read(name: str) -> str:
    try:
        if name == STANDARD:
            octets = sys.stdin.buffer.read(MAX_PEM_LENGTH + 1)
        else:
            with Path(name).open("rb") as file:
                octets = file.read(MAX_PEM_LENGTH + 1)
    except OSError as error:
        raise KeyFileError(f"nothing was imported: {name} can't be read: {error.strerror}") from None
    return octets.decode(errors="replace")

"""What is sent to Redis: single commands, scripts, and calls made of them.

A module of the store gives `Call`s; `Store.run` sends one and `Store.run_all` several in one round trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Generic, TypeAlias, TypeVar

from shared_store.keyspace import kind_of

Value: TypeAlias = str | bytes | int
Reply: TypeAlias = Any  # what the server answered: bytes, int, None or a list of these
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script of this package, by the name of its file."""

    name: str
    text: str = field(repr=False)
    sha: str = field(repr=False)

    def __call__(self, keys: Sequence[str | bytes], *args: Value) -> Command:
        """Give the command that runs this script on these keys."""
        return Command(("EVALSHA", self.sha, len(keys), *keys, *args), script=self)


@dataclass(frozen=True, slots=True)
class Command:
    """One command, as words; `script` is set where it runs one that the server may not have loaded."""

    words: tuple[Value, ...]
    script: Script | None = None

    def __str__(self) -> str:
        """Tell what is sent and which kinds of keys it touches, without any value: fit for logs."""
        name = f"the script {self.script.name}" if self.script else str(self.words[0]).upper()
        kinds = dict.fromkeys(kind for word in self.words[1:] if (kind := kind_of(word)))
        return f"{name} on {' '.join(kinds)}" if kinds else name

    def with_script_text(self) -> Command:
        """Give the same command carrying the script's text, for a server that has not seen it (NOSCRIPT)."""
        if self.script is None:
            return self
        return Command(("EVAL", self.script.text, *self.words[2:]), script=self.script)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """Commands that go together, and how their replies become a value.

    Every call may be sent twice (the reply to the first may be lost), so it has to come to the same end and the same
    answer both times. A `durable` one is done only once as many replicas have it as the store is told to wait for.
    """

    commands: tuple[Command, ...]
    decode: Callable[[list[Reply]], T_co]
    durable: bool = False


def load_script(name: str, *, shared: str | None = None) -> Script:
    """Read a script that is part of this package, behind the functions that it shares with others."""
    folder = resources.files(__package__).joinpath("lua")
    text = "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in (shared, name) if part)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def command(*words: Value) -> Command:
    """Give a plain command."""
    return Command(words)


def server_time() -> Call[float]:
    """Read the server's clock, Unix seconds."""
    return Call((command("TIME"),), lambda replies: int(replies[0][0]) + int(replies[0][1]) / 1_000_000)


def nothing(_replies: list[Reply]) -> None:
    """Decode a reply that says nothing."""

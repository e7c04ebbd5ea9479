"""Client libraries as their authors publish them, and people who log in with them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.person import Person
from tests.stack import Stack

NODE_FOLDER = Path(__file__).with_name("node")
_NUMBERS = itertools.count(1)


class NoticedError(Exception):
    """What a client library found wrong, in its words."""


class Script:
    """A relying party in a process of its own, spoken to line by line."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, cwd=NODE_FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self, text: str) -> str:
        """Send a line and wait for the answer; pytest's timeout is the bound."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the client's process has ended after {text}"
        return answer.removesuffix("\n")

    def call(self, function: str, **argument: object) -> Any:
        """Call one of the script's functions (see node/lines.mjs). Raises: NoticedError."""
        told = json.loads(self.line(json.dumps([function, argument])))
        if "error" in told:
            raise NoticedError(told["error"])
        return told["result"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def node() -> Iterator[Callable[..., Script]]:
    """Start a script of the folder `node`, whose libraries `make install-clients` installs."""
    program = shutil.which("node")
    assert program, "Node.js is missing: make system-packages"
    assert (NODE_FOLDER / "node_modules").is_dir(), "the libraries are missing: make install-clients"
    started: list[Script] = []

    def start(script: str, *arguments: str) -> Script:
        started.append(Script(program, script, *arguments))
        return started[-1]

    yield start
    for script in started:
        script.close()


@pytest.fixture
def new_person(stack: Stack) -> Iterator[Callable[[], Person]]:
    """Give somebody new."""
    people: list[Person] = []

    def make() -> Person:
        people.append(Person(stack, f"person{next(_NUMBERS)}+tag@clients.example"))
        return people[-1]

    yield make
    for person in people:
        person.close()


@pytest.fixture
def person(new_person: Callable[[], Person]) -> Person:
    return new_person()

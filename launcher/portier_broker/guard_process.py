"""Run as a program: outlives the launcher by seconds, to end whatever it left behind when it was killed.

Its standard input is a pipe whose other end only the launcher holds (and, until it has named itself, a child that is
just starting). Lines on it: `+PID` a process group to end, `-PID` one that is gone, `/PATH` a directory to remove.
At end of file the launcher is dead. Only the standard library, since it runs without `site`, to start at once.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

GRACE = 3.0  # seconds between SIGTERM and SIGKILL


def left_behind(lines: Iterable[str]) -> tuple[set[int], set[str]]:
    """Read until the other end closes; return the process groups and the directories that are still there."""
    groups: set[int] = set()
    directories: set[str] = set()
    for line in lines:
        word = line.rstrip("\n")
        if word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
        elif word.startswith("/"):
            directories.add(word)
    return groups, directories


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def end(groups: set[int]) -> None:
    """Ask each group to stop, and kill what has not after GRACE."""
    for group in groups:
        with suppress(OSError):
            os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while any(map(_alive, groups)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for group in groups:
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Wait for the launcher's end, then clean up after it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups, directories = left_behind(sys.stdin)
    end(groups)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()

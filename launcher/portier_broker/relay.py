"""Passes a child's output on, whole lines at a time, so that lines of different children never mix.

In daemon threads, since writing to a terminal that someone has stopped (Ctrl-S) blocks, and must block neither the
launcher's loop nor its end.
"""

import asyncio
import os
import threading
from typing import BinaryIO

LONGEST_LINE = 1 << 20  # bytes; a longer one is passed on in pieces of this size


class LineSink:
    """A file descriptor that several threads write whole lines to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Write all of `data`; drop it when nobody reads any more, so that the children can go on."""
        rest = memoryview(data)
        with self._lock:
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                return


def _pump(source: BinaryIO, sink: LineSink) -> None:
    with source:
        while line := source.readline(LONGEST_LINE):
            whole = line.endswith(b"\n") or len(line) == LONGEST_LINE
            sink.write(line if whole else line + b"\n")


class Relay:
    """One pipe: its `write_end` is for the child and closed here after the start."""

    def __init__(self, sink: LineSink, *, name: str) -> None:
        read_end, self.write_end = os.pipe()
        self._thread = threading.Thread(
            target=_pump, args=(os.fdopen(read_end, "rb"), sink), name=f"output of {name}", daemon=True
        )
        self._thread.start()

    def close_write_end(self) -> None:
        """Leave the pipe to the child, whose end then is the end of its output."""
        os.close(self.write_end)

    async def drained(self, timeout: float) -> None:  # noqa: ASYNC109 a thread is joined, which cannot be cancelled
        """Wait until all has been passed on, at most `timeout` seconds."""
        await asyncio.to_thread(self._thread.join, timeout)

"""Plays a service for the launcher's tests: answers /readyz on its internal port, records how it was started.

Arguments: its name, the directory to record in, then what the launcher gives it.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

NAME, RECORD, ARGUMENTS = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]


def ready() -> bool:
    return (RECORD / "ready").exists()


def record() -> None:
    draft = RECORD / f".{NAME}.json"
    draft.write_text(json.dumps({"pid": os.getpid(), "arguments": ARGUMENTS, "environment": dict(os.environ)}))
    draft.replace(RECORD / f"{NAME}.json")


async def serve() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.0 %d x\r\n\r\nreasons" % (200 if ready() else 503))
        await writer.drain()
        writer.close()

    await asyncio.start_server(answer, "127.0.0.1", int(os.environ["BROKER_INTERNAL_PORT"]))
    if NAME == "auth-api" and "BROKER_LISTEN_PORT" in os.environ:
        await asyncio.start_server(answer, "127.0.0.1", int(os.environ["BROKER_LISTEN_PORT"]))
    print(f"{NAME} up", flush=True)
    record()
    await stopped.wait()
    print(f"{NAME} stopped", flush=True)


if __name__ == "__main__":
    if ARGUMENTS[0] == "run" and "--check" not in ARGUMENTS:
        if (RECORD / f"{NAME}.refuses").exists():
            sys.exit(2)
        asyncio.run(serve())
    else:
        record()
        print(f"{NAME} checked", flush=True)

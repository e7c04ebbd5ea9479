"""New signing keys, made beside the event loop: RSA in a thread or by the configured command, Ed25519 at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from key_rotator.errors import KeyGenerationError
from shared_store.signing_keys import SigningAlg, SigningKey, UnreadableKeyError, generate, load_pem

COMMAND_BOUND = 120.0  # seconds; 8192 bits take openssl up to a minute on a small machine
OUTPUT_BOUND = 65_536  # octets; a key of 16384 bits has 13,000
CLEAN_UP_BOUND = 1.0  # seconds
ERROR_SHOWN = 200  # characters of what a command that failed had to say


class KeyMaker:
    """Makes signing keys as configured."""

    def __init__(self, *, rsa_bits: int, rsa_command: Sequence[str] = (), command_bound: float = COMMAND_BOUND) -> None:
        self._rsa_bits = rsa_bits
        self._rsa_command = tuple(rsa_command)
        self._command_bound = command_bound

    async def make(self, alg: SigningAlg) -> SigningKey:
        """Make one key.

        Raises:
            KeyGenerationError: generate_rsa_command gave none.
        """
        if alg == "EdDSA":
            return generate(alg)
        if self._rsa_command:
            return await self._ask_command()
        return await _in_thread(lambda: generate(alg, self._rsa_bits))

    async def _ask_command(self) -> SigningKey:
        try:
            async with asyncio.timeout(self._command_bound):
                text = await _run(self._rsa_command)
        except TimeoutError:
            raise KeyGenerationError(
                f"generate_rsa_command did not end within {self._command_bound:g} s; mend it or remove it"
            ) from None
        try:
            key = load_pem(text)
        except UnreadableKeyError as error:
            raise KeyGenerationError(f"generate_rsa_command printed no usable key: {error}") from None
        if key.alg != "RS256":
            raise KeyGenerationError("generate_rsa_command printed a key that is not RSA; mend it or remove it")
        return key


async def _in_thread(make: Callable[[], SigningKey]) -> SigningKey:
    """Run it in a thread that does not hold up the end of the process, as those of asyncio's executor do."""
    outcome: Future[SigningKey] = Future()

    def work() -> None:
        outcome.set_running_or_notify_cancel()
        try:
            outcome.set_result(make())
        except Exception as error:  # noqa: BLE001 - it is raised where the key is waited for
            outcome.set_exception(error)

    threading.Thread(target=work, name="keygen", daemon=True).start()
    return await asyncio.wrap_future(outcome)


async def _run(command: Sequence[str]) -> str:
    """Run a command without a shell and give what it printed; it does not outlive this call."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise KeyGenerationError(f"generate_rsa_command can't be started: {error.strerror}: {command[0]}") from None
    try:
        printed, complaint = await asyncio.gather(_read(process, process.stdout), _read(process, process.stderr))
        code = await process.wait()
    finally:
        _kill(process)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_UP_BOUND):
                await process.communicate()  # what is left in the pipes, and the exit code
    if max(len(printed), len(complaint)) > OUTPUT_BOUND:
        raise KeyGenerationError(f"generate_rsa_command prints more than {OUTPUT_BOUND} octets; mend or remove it")
    if code:
        last_line = complaint.decode(errors="replace").strip().rpartition("\n")[2][:ERROR_SHOWN]
        raise KeyGenerationError(f"generate_rsa_command failed with exit code {code}: {last_line or 'no message'}")
    return printed.decode(errors="replace")


async def _read(process: Process, stream: asyncio.StreamReader | None) -> bytes:
    """Read to the end; a process that prints too much is killed, and what it printed beyond that is left out."""
    octets = b""
    while stream is not None and (part := await stream.read(OUTPUT_BOUND)):
        if len(octets) <= OUTPUT_BOUND:
            octets += part
        else:
            _kill(process)
    return octets


def _kill(process: Process) -> None:
    """Kill it with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

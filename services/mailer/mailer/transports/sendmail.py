"""A program that is called as sendmail is: `COMMAND -i -f FROM -- TO`, the mail on its standard input."""

from __future__ import annotations

import asyncio
import os
import shutil

from mailer.errors import TransportError
from mailer.mails import Mail
from mailer.verdicts import WITHHELD, Fault, Kind, Verdict

# <sysexits.h>: of these alone does the program say that it is the recipient, or the mail, that can't be.
_RECIPIENT_STATUS = frozenset({os.EX_DATAERR, os.EX_NOUSER, os.EX_NOHOST})


class SendmailTransport:
    """Sends through a program on this machine, without a shell."""

    name = "sendmail"

    def __init__(self, command: str) -> None:
        self._command = command

    async def send(
        self,
        mail: Mail,
        *,
        bound: float,
        silence: float | None = None,  # noqa: ARG002
        reply: float | None = None,
    ) -> Verdict:
        """Try once; a program that takes too long is killed. It has the mail at once, however silent it is."""
        if not mail.still_wanted():
            return WITHHELD
        arguments = ("-i", "-f", mail.sender.address, "--", mail.to.address)
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                self._command, *arguments, stdin=pipe, stdout=null, stderr=null
            )
        except OSError as error:
            return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, f"start {error.strerror}")
        try:
            async with asyncio.timeout(reply or bound):
                await _hand_over(process, (await mail.to_signed_bytes()).replace(b"\r\n", b"\n"))
        except TimeoutError:
            return Verdict(Kind.TRY_AGAIN, Fault.UNKNOWN, "timed out")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return judge_exit(process.returncode)

    async def check(self) -> str:
        """Learn whether the program is there.

        Raises:
            TransportError: it is not.
        """
        if shutil.which(self._command) is None:
            raise TransportError(f"sendmail: {self._command} is not a program that can be run; see sendmail_command")
        return f"{self._command} can be run"

    async def aclose(self) -> None:
        """Nothing is open between mails."""


async def _hand_over(process: asyncio.subprocess.Process, content: bytes) -> None:
    """Give a program its input and wait for its end; what it thinks of what it did not read, its status says."""
    try:
        await process.communicate(content)
    except (OSError, RuntimeError):  # uvloop's where the program has closed its end
        await process.wait()


def judge_exit(status: int | None) -> Verdict:
    """Say what an exit status means."""
    reason = f"exit {status}"
    if status == 0:
        return Verdict(Kind.DELIVERED, Fault.NONE, reason)
    if status in _RECIPIENT_STATUS:
        return Verdict(Kind.GIVE_UP, Fault.RECIPIENT, reason)
    return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, reason)

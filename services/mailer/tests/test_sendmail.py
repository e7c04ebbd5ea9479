"""sendmail, or what is called as it is: a real program each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from mailer.errors import TransportError
from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient
from mailer.transports.sendmail import SendmailTransport
from mailer.verdicts import Fault, Kind

A, G, D = Kind.TRY_AGAIN, Kind.GIVE_UP, Kind.DELIVERED


def mail(to: str = "jane@example.org") -> Mail:
    return Mail("id", Sender.of("N", parse_recipient("login@broker.example")), parse_recipient(to), "s", "t", "h", ())


def program(folder: Path, script: str) -> str:
    path = folder / "sendmail"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_sendmail_is_called_without_a_shell_and_fed_the_mail(tmp_path: Path) -> None:
    out = tmp_path / "out"
    transport = SendmailTransport(program(tmp_path, f'echo "$@" > {out}; cat >> {out}'))
    assert (await transport.send(mail("a@example.org"), bound=5)).kind is D
    first, _, content = out.read_text().partition("\n")
    assert first == "-i -f login@broker.example -- a@example.org"
    assert content.startswith("From: ")
    assert "\r" not in content
    assert await transport.check() == f"{transport._command} can be run"


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [(67, G, Fault.RECIPIENT), (75, A, Fault.TRANSPORT), (1, A, Fault.TRANSPORT), (78, A, Fault.TRANSPORT)],
)
async def test_exit_status_of_sendmail_is_judged(tmp_path: Path, status: int, kind: Kind, fault: Fault) -> None:
    transport = SendmailTransport(program(tmp_path, f"cat > /dev/null; exit {status}"))
    verdict = await transport.send(mail(), bound=5)
    assert (verdict.kind, verdict.fault, verdict.reason) == (kind, fault, f"exit {status}")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("text", ["t", "t\n" * 500_000])
def test_program_that_reads_nothing_is_judged_by_its_status(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop], text: str
) -> None:
    transport = SendmailTransport(program(tmp_path, "exec 0<&-; exit 67"))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for _ in range(5):
            verdict = runner.run(transport.send(replace(mail(), text=text), bound=5))
            assert (verdict.kind, verdict.reason) == (G, "exit 67")


async def test_sendmail_that_hangs_is_killed_and_one_that_is_missing_told(tmp_path: Path) -> None:
    hanging = SendmailTransport(program(tmp_path, "exec sleep 60"))
    verdict = await hanging.send(mail(), bound=0.3)
    assert (verdict.kind, verdict.fault) == (A, Fault.UNKNOWN)
    missing = SendmailTransport(str(tmp_path / "nothing"))
    assert (await missing.send(mail(), bound=5)).fault is Fault.TRANSPORT
    with pytest.raises(TransportError, match="sendmail_command"):
        await missing.check()

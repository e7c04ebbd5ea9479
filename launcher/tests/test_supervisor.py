import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from portier_broker.errors import LauncherError
from portier_broker.guard import Guard
from portier_broker.supervisor import ChildGaveUpError, ChildSpec, RestartPolicy, Supervisor, describe_exit

from .conftest import eventually, runs


def child(script: str, *, name: str = "child", gives_up_with: frozenset[int] = frozenset(), **more: str) -> ChildSpec:
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **more}
    return ChildSpec(name, (sys.executable, "-c", script), environment, gives_up_with=gives_up_with)


def content(output: Path) -> bytes:
    return output.read_bytes()


def lines(output: Path) -> list[str]:
    return output.read_text().splitlines()


WAIT_FOR_EVER = "import signal\nprint('up')\nwhile True: signal.pause()"


async def test_child_runs_while_the_block_runs_and_is_gone_after(supervisor: Supervisor, output: Path) -> None:
    async with supervisor.running(child(WAIT_FOR_EVER)):
        await eventually(lambda: lines(output) == ["up"])
        pid = supervisor.pids["child"]
        assert runs(pid)
    assert not runs(pid)
    assert supervisor.pids == {}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
        ("", "exit code 0"),
    ],
)
async def test_child_that_dies_is_started_again_and_it_is_told_which_and_why(
    supervisor: Supervisor, script: str, reason: str
) -> None:
    with capture_logs() as logs:
        async with supervisor.running(child(script, name="mailer")):
            await eventually(lambda: len([entry for entry in logs if entry["event"] == "child_died"]) >= 3)
    died = [entry for entry in logs if entry["event"] == "child_died"]
    assert {(entry["child"], entry["reason"]) for entry in died} == {("mailer", reason)}
    assert [entry["restart_in_seconds"] for entry in died[:3]] == [0.01, 0.02, 0.04]


def test_delay_doubles_up_to_its_limit_and_starts_anew_once_the_child_has_settled() -> None:
    policy = RestartPolicy()
    delays = [0.0]
    for _ in range(8):
        delays.append(policy.next_delay(delays[-1], lived=0.5))
    assert delays[1:] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert policy.next_delay(5.0, lived=10.0) == 0.1


def test_exit_is_described_by_name_where_it_has_one() -> None:
    assert describe_exit(-9) == "signal SIGKILL"
    assert describe_exit(-63) == "signal 63"
    assert describe_exit(78) == "exit code 78"


async def test_child_whose_command_does_not_exist_is_told_and_tried_again(supervisor: Supervisor, output: Path) -> None:
    async with supervisor.running(ChildSpec("child", ("/nowhere/at-all",), {})):
        await eventually(lambda: len(lines(output)) >= 2)
    assert lines(output)[0] == "cannot run /nowhere/at-all: No such file or directory"


async def test_child_that_gives_up_ends_the_others_too(supervisor: Supervisor) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with supervisor.running(
            child(WAIT_FOR_EVER, name="other"),
            child("import sys; sys.exit(78)", name="mailer", gives_up_with=frozenset({78})),
        ):
            await asyncio.Event().wait()
    assert caught.group_contains(ChildGaveUpError, match="mailer gave up with exit code 78")
    assert caught.group_contains(LauncherError)
    assert supervisor.pids == {}


async def test_child_that_ignores_sigterm_is_killed_after_its_grace(supervisor: Supervisor, output: Path) -> None:
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\nwhile 1: signal.pause()"
    with capture_logs() as logs:
        async with supervisor.running(child(script)):
            await eventually(lambda: lines(output) == ["deaf"])
            pid = supervisor.pids["child"]
    assert not runs(pid)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["child_killed"]


async def test_child_gets_sigterm_and_may_finish_its_work(supervisor: Supervisor, output: Path) -> None:
    script = (
        "import signal, sys\n"
        "def stop(*_):\n    print('finished'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('up')\nwhile True: signal.pause()"
    )
    async with supervisor.running(child(script)):
        await eventually(lambda: lines(output) == ["up"])
    assert lines(output) == ["up", "finished"]


async def test_grandchildren_go_with_the_child(supervisor: Supervisor, output: Path) -> None:
    script = (
        "import subprocess, sys, os\n"
        "p = subprocess.Popen([sys.executable, '-c', "
        "'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\\nwhile 1: signal.pause()'])\n"
        "print(p.pid)\np.wait()"
    )
    async with supervisor.running(child(script)):
        await eventually(lambda: lines(output))
        grandchild = int(lines(output)[0])
        assert runs(grandchild)
    await eventually(lambda: not runs(grandchild))


async def test_lines_of_children_that_spew_are_passed_on_whole(supervisor: Supervisor, output: Path) -> None:
    count, width = 400, 20_000
    script = f"import os, signal\nfor i in range({count}): print(os.environ['WHO'] * {width})\nsignal.pause()"
    async with supervisor.running(*(child(script, name=who, WHO=who) for who in "abc")):
        await eventually(lambda: output.stat().st_size == 3 * count * (width + 1))
    found = lines(output)
    assert sorted(set(found)) == [who * width for who in "abc"]
    assert len(found) == 3 * count


async def test_bytes_that_are_no_text_and_a_last_line_without_its_end_pass_too(
    supervisor: Supervisor, output: Path
) -> None:
    script = "import sys; sys.stdout.buffer.write(b'\\xff\\x00\\r\\n\\n' + b'x' * 3_000_000); sys.stdout.flush()"
    async with supervisor.running(child(script + "; print('all', file=sys.stderr)\nimport signal; signal.pause()")):
        await eventually(lambda: b"all\n" in content(output))
    assert content(output).replace(b"all\n", b"") == b"\xff\x00\r\n\n" + b"x" * 3_000_000 + b"\n"


async def test_child_of_a_terminals_ctrl_c_is_out_of_its_reach(supervisor: Supervisor) -> None:
    async with supervisor.running(child(WAIT_FOR_EVER)):
        await eventually(lambda: "child" in supervisor.pids)
        pid = supervisor.pids["child"]
        assert os.getpgid(pid) == pid != os.getpgrp()
        assert os.getsid(pid) == pid


async def test_sockets_from_systemd_reach_the_child_under_its_own_pid(supervisor: Supervisor, output: Path) -> None:
    script = "import os\nprint(os.environ['LISTEN_PID'] == str(os.getpid()))\nimport signal; signal.pause()"
    async with supervisor.running(child(script, LISTEN_FDS="1", LISTEN_PID="1")):
        await eventually(lambda: lines(output))
    assert lines(output) == ["True"]


async def test_guard_that_was_killed_is_told_and_children_still_stop(
    supervisor: Supervisor, guard: Guard, output: Path
) -> None:
    with capture_logs() as logs:
        async with supervisor.running(child(WAIT_FOR_EVER)):
            await eventually(lambda: lines(output) == ["up"])
            os.kill(guard.pid, signal.SIGKILL)
            await eventually(lambda: not runs(guard.pid))
            pid = supervisor.pids["child"]
    assert not runs(pid)
    assert "guard_is_gone" in {entry["event"] for entry in logs}

"""Real processes: signals, exit codes, the command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service_kit.stopping import Stop, run, run_until_stopped

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """
import asyncio, sys, time
from service_kit.cli import Cli
from service_kit.logs import configure_logging
from service_kit.settings import CommonSettings, KeySettings, KeyMakingSettings
from service_kit.stopping import run

configure_logging(service="test", format="json")

class Settings(CommonSettings, KeySettings, KeyMakingSettings):
    pass

async def serve(loaded, stop):
    print("up", flush=True)
    await stop.wait()
    print("draining", flush=True)

async def show(loaded, arguments):
    print(loaded.settings.keys_ttl, arguments.word)
    return 7

async def ttl(loaded, arguments):
    print(loaded.settings.keys_ttl)
    return 0

cli = Cli("key-rotator", Settings, serve)
cli.add_command("ttl", ttl, help="Show one setting")
cli.add_command("show", show, help="Show it").add_argument("word")
"""

MAIN = SERVICE + "sys.exit(cli.main())"


def start(script: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "BROKER_REDIS_URL": "redis://u:hunter2@h", **environ},
    )


def finish(script: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    with start(script, *arguments, **environ) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_ends_with_zero(number: signal.Signals) -> None:
    with start(MAIN) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "draining\n")
    assert '"event": "stopped"' in err


STUBBORN = (
    SERVICE
    + """
async def main(stop):
    print("up", flush=True)
    await stop.wait()
    print("draining", flush=True)
    {last}
sys.exit(run(main, drain={drain}))
"""
)


def test_second_signal_ends_at_once() -> None:
    with start(STUBBORN.format(last="await asyncio.sleep(600)", drain=600)) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.readline() == "draining\n"
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_second_signal_ends_even_a_blocked_loop() -> None:
    with start(STUBBORN.format(last="time.sleep(600)", drain=600)) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("last", ["await asyncio.sleep(600)", "time.sleep(600)"])
def test_drain_has_a_bound(last: str) -> None:
    with start(STUBBORN.format(last=last, drain=0.1)) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 1


def test_failure_is_logged_once_with_its_traceback_and_ends_with_one() -> None:
    script = SERVICE + "async def main(stop):\n    raise OSError('broken pipe')\nsys.exit(run(main))"
    code, _, err = finish(script)
    assert code == 1
    assert err.count("OSError: broken pipe") == 1
    assert "Traceback" in err


def test_service_that_is_done_by_itself_ends_with_zero() -> None:
    async def main(stop: Stop) -> None:
        assert not await stop.wait(0.001)
        assert not stop.requested

    assert run(main) == 0


async def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def main(stop: Stop) -> None:
        assert signal.getsignal(signal.SIGTERM) != before
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        assert stop.reason == "SIGTERM"

    assert await run_until_stopped(main) == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_service_manager_hears_of_the_stop(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    script = (
        SERVICE
        + """
from service_kit import systemd
async def main(stop):
    assert systemd.notify("READY=1")
    print("up", flush=True)
    await stop.wait()
sys.exit(run(main))
"""
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(60)
        with start(script, NOTIFY_SOCKET=str(path)) as process:
            assert manager.recv(100) == b"READY=1"
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--check", "{file}"],
        ["run", "--check", "{file}"],
        ["{file}", "--check"],
        ["--config", "{file}", "--check"],
        ["run", "--check", "--config={file}"],
    ],
)
def test_check_prints_the_settings_of_the_file_given_in_any_way(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("keys_ttl = 77\n")
    code, out, _ = finish(MAIN, *(argument.format(file=file) for argument in arguments))
    assert code == 0
    assert any(line.split()[:2] == ["keys_ttl", "77"] for line in out.splitlines())
    assert "hunter2" not in out


@pytest.mark.parametrize("arguments", [["{file}"], ["--config", "{file}"]])
def test_command_that_takes_nothing_else_gets_its_file_in_any_way(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("keys_ttl = 77\n")
    assert finish(MAIN, "ttl", *(argument.format(file=file) for argument in arguments))[:2] == (0, "77\n")


def test_help_tells_of_the_file_and_of_check() -> None:
    code, out, _ = finish(MAIN, "--help")
    assert code == 0
    assert all(word in out for word in ("[run] [CONFIG]", "--check", "--debug", "COMMAND [--config CONFIG]", "show"))


def test_wrong_configuration_is_told_and_ends_with_two() -> None:
    code, out, err = finish(MAIN, BROKER_KEYS_TTL="x")
    assert (code, out) == (2, "")
    assert "keys_ttl (environment BROKER_KEYS_TTL)" in err
    assert "Traceback" not in err


def test_command_of_the_service_s_own_runs_with_its_settings() -> None:
    code, out, _ = finish(MAIN, "show", "word", BROKER_KEYS_TTL="5")
    assert (code, out) == (7, "5 word\n")


def test_version_is_told() -> None:
    code, out, _ = finish(MAIN, "--version")
    assert code == 0
    assert out.startswith("key-rotator ")


def test_warnings_of_the_configuration_are_logged() -> None:
    _, _, err = finish(MAIN, "show", "word", BROKER_KEYS_TL="5")
    assert "did you mean BROKER_KEYS_TTL?" in err

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import BOUND, eventually, runs

LAUNCHER = str(Path(__file__).with_name("launcher_with_stand_ins.py"))
SERVICES = {"auth-api", "mailer", "key-rotator"}


@dataclass
class Launcher:
    """One launcher and everything it started."""

    process: subprocess.Popen[str]
    directory: Path

    @property
    def ready_file(self) -> Path:
        return self.directory / "ready.json"

    def told(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.ready_file.read_text())
        return content

    async def ready(self) -> dict[str, Any]:
        await eventually(lambda: self.ready_file.exists() or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.process.communicate()
        return self.told()

    def started(self, service: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / f"{service}.json").read_text())
        return content

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=BOUND)
        return self.process.returncode, out, err


class Start:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Launcher] = []
        (directory / "ready").touch()

    def __call__(self, *arguments: str, ready_file: bool = True, **environment: str) -> Launcher:
        command = [sys.executable, LAUNCHER, str(self.directory), *arguments]
        launcher = Launcher(
            subprocess.Popen(
                command + (["--ready-file", str(self.directory / "ready.json")] if ready_file else []),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env={**os.environ, "BROKER_INTERNAL_PORT": "0", **environment},
            ),
            self.directory,
        )
        self.started.append(launcher)
        return launcher


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    start = Start(tmp_path)
    yield start
    for launcher in start.started:
        if launcher.process.poll() is None:
            launcher.process.kill()
        launcher.process.communicate()


def all_gone(told: dict[str, Any]) -> bool:
    return not any(runs(pid) for pid in told["pids"].values())


DEMO = ("demo", "--no-open", "--broker-port", "0", "--inbox-port", "0", "--site-port", "0")


async def test_demo_tells_where_everything_is_and_sends_all_mail_to_its_inbox(start: Start) -> None:
    launcher = start(*DEMO)
    told = await launcher.ready()
    assert set(told["pids"]) == {*SERVICES, "valkey", "portier-broker"}
    async with httpx.AsyncClient(trust_env=False) as client:
        for page in ("inbox", "demo_site"):
            answer = await client.get(told["urls"][page].replace("localhost", "127.0.0.1"))
            assert answer.status_code == 200
    environment = launcher.started("mailer")["environment"]
    assert environment["BROKER_PUBLIC_URL"] == told["urls"]["broker"]
    assert f"smtp://{environment['BROKER_SMTP_SERVER']}" == told["urls"]["inbox_smtp"]
    assert environment["BROKER_SMTP_SECURITY"] == "off"
    assert environment["BROKER_REDIS_URL"].startswith("unix:///")
    launcher.process.send_signal(signal.SIGINT)
    code, out, _ = launcher.finish()
    assert code == 0
    for url in ("broker", "inbox", "demo_site"):
        assert told["urls"][url] in out
    assert {f"{service} stopped" for service in SERVICES} <= set(out.splitlines())
    assert all_gone(told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.setting("memory_storage")
async def test_signal_stops_everything_and_leaves_no_process(start: Start, number: signal.Signals) -> None:
    launcher = start(BROKER_MEMORY_STORAGE="true", BROKER_PUBLIC_URL="http://localhost:3333", LISTEN_FDS="")
    await eventually(lambda: all((start.directory / f"{service}.json").exists() for service in SERVICES))
    pids = [launcher.started(service)["pid"] for service in SERVICES]
    store = Path(launcher.started("mailer")["environment"]["BROKER_REDIS_URL"].removeprefix("unix://")).parent
    await eventually(lambda: all(runs(pid) for pid in pids))
    launcher.process.send_signal(number)
    code, _, err = launcher.finish()
    assert code == 0, err
    assert not any(runs(pid) for pid in pids)
    assert not store.exists()


async def test_ctrl_c_at_a_terminal_lets_the_services_stop_in_their_own_time(start: Start) -> None:
    launcher = start(*DEMO)
    told = await launcher.ready()
    os.killpg(launcher.process.pid, signal.SIGINT)  # what a terminal does: everyone in the foreground group
    code, out, _ = launcher.finish()
    assert code == 0
    assert out.count(" stopped") == 3
    assert all_gone(told)


async def test_launcher_that_is_killed_leaves_no_process_and_no_file(start: Start) -> None:
    launcher = start(*DEMO)
    told = await launcher.ready()
    store = Path(launcher.started("mailer")["environment"]["BROKER_REDIS_URL"].removeprefix("unix://")).parent
    assert store.exists()
    launcher.process.kill()
    await eventually(lambda: all_gone(told), "every process gone")
    await eventually(lambda: not store.exists(), "the throw-away directory gone")


async def test_service_that_is_killed_is_started_again(start: Start) -> None:
    launcher = start(*DEMO)
    told = await launcher.ready()
    os.kill(told["pids"]["mailer"], signal.SIGKILL)
    await eventually(lambda: launcher.started("mailer")["pid"] != told["pids"]["mailer"])
    launcher.process.terminate()
    _, _, err = launcher.finish()
    [died] = [json.loads(line) for line in err.splitlines() if "child_died" in line]
    assert (died["child"], died["reason"]) == ("mailer", "signal SIGKILL")


async def test_service_that_refuses_its_configuration_ends_the_launcher(start: Start) -> None:
    (start.directory / "mailer.refuses").touch()
    code, _, err = start(*DEMO).finish()
    assert code == 1
    assert "portier-broker: mailer gave up with exit code 2" in err
    assert "Traceback" not in err


async def test_nothing_is_told_before_all_are_ready(start: Start) -> None:
    (start.directory / "ready").unlink()
    launcher = start(*DEMO)
    await eventually(lambda: all((start.directory / f"{service}.json").exists() for service in SERVICES))
    assert not launcher.ready_file.exists()
    (start.directory / "ready").touch()
    await launcher.ready()


@pytest.mark.parametrize("broker_runs", [False, True])
async def test_keys_commands_reach_the_embedded_store_whether_or_not_the_broker_runs(
    start: Start, tmp_path: Path, broker_runs: bool
) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\n')
    if broker_runs:
        await start(*DEMO, str(config)).ready()
    code, _, err = run(start, "--import-keys", "keys.pem", "--dry-run", "--check", str(config))
    assert code == 2  # one thing at a time
    launcher = start("--import-keys", "keys.pem", "--dry-run", str(config), ready_file=False)
    code, _, err = launcher.finish()
    assert code == 0, err
    told = launcher.started("key-rotator")
    assert told["arguments"] == ["import", "keys.pem", "--dry-run", "--config", str(config)]
    assert told["environment"]["BROKER_REDIS_URL"] == f"unix://{tmp_path}/state/valkey.sock"


async def test_migrate_hands_on_to_the_key_rotator_with_the_store_that_the_broker_would_use(
    start: Start, tmp_path: Path
) -> None:
    launcher = start(
        "migrate", "--from", "redis://old", "--dry-run", ready_file=False, BROKER_STATE_DIR=str(tmp_path / "state")
    )
    code, _, err = launcher.finish()
    assert code == 0, err
    told = launcher.started("key-rotator")
    assert told["arguments"] == ["import", "--from-redis", "redis://old", "--dry-run"]
    assert told["environment"]["BROKER_REDIS_URL"] == f"unix://{tmp_path}/state/valkey.sock"


async def test_doctor_hands_on_to_auth_api_with_the_store_that_the_broker_would_use(
    start: Start, tmp_path: Path
) -> None:
    launcher = start("doctor", "--json", ready_file=False, BROKER_STATE_DIR=str(tmp_path / "state"))
    code, _, err = launcher.finish()
    assert code == 0, err
    told = launcher.started("auth-api")
    assert told["arguments"] == ["doctor", "--all", "--json"]
    assert told["environment"]["BROKER_REDIS_URL"] == f"unix://{tmp_path}/state/valkey.sock"


async def test_call_hands_on_to_the_service_with_the_store_that_the_broker_would_use(
    start: Start, tmp_path: Path
) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"')
    launcher = start("call", "--config", str(config), "mailer", "queue", "list", "--json", ready_file=False)
    code, _, err = launcher.finish()
    assert code == 0, err
    told = launcher.started("mailer")
    assert told["arguments"] == ["queue", "--config", str(config), "list", "--json"]
    assert told["environment"]["BROKER_REDIS_URL"] == f"unix://{tmp_path}/state/valkey.sock"


@pytest.mark.setting("state_dir")
async def test_second_launcher_on_a_state_directory_is_told_so_and_ends(start: Start, tmp_path: Path) -> None:
    demo = (*DEMO, "--inbox-smtp-port", "0")
    first = start(*demo, BROKER_STATE_DIR=str(tmp_path / "state"))
    await first.ready()
    second = start(*demo, ready_file=False, BROKER_STATE_DIR=str(tmp_path / "state"))
    code, _, err = second.finish()
    assert code == 1
    assert f"in use by another portier-broker (process {first.process.pid})" in err
    assert "Traceback" not in err


def run(start: Start, *arguments: str, **environment: str) -> tuple[int, str, str]:
    return start(*arguments, ready_file=False, **environment).finish()


def test_check_asks_every_service_and_starts_no_store(start: Start, tmp_path: Path) -> None:
    code, out, _ = run(start, "--check", BROKER_STATE_DIR=str(tmp_path / "state"))
    assert code == 0
    assert [line for line in out.splitlines() if line.endswith(" checked")] == [
        f"{service} checked" for service in ("auth-api", "mailer", "key-rotator")
    ]
    assert "environment BROKER_STATE_DIR" in out
    assert not (tmp_path / "state").exists()


def test_configuration_that_makes_no_sense_is_told_on_one_line_each(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('public_ur = "x"\nsqlite_db = "file"\n')
    code, _, err = run(start, str(config))
    assert code == 2
    assert "did you mean public_url?" in err
    assert "redis_url" in err
    assert "Traceback" not in err


def test_one_store_is_enough(start: Start) -> None:
    code, _, err = run(start, BROKER_REDIS_URL="redis://localhost", BROKER_MEMORY_STORAGE="true")
    assert code == 2
    assert "memory_storage" in err


def test_help_and_version_are_there(start: Start) -> None:
    assert "portier-broker demo" in run(start, "--help")[1]
    assert run(start, "--version")[1].startswith("Portier Broker ")

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portier_broker.command_line import Demo, Options, parse
from portier_broker.demo import DemoSockets, demo_environment, open_sockets
from portier_broker.ports import free_port, listening_socket, port_of
from portier_broker.services import address_of, find_addresses, internal_ports, service_specs, with_settings
from portier_broker.settings import load_settings

ANY_PORTS = Demo(open_browser=False, broker_port=0, inbox_port=0, inbox_smtp_port=0, site_port=0)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], Options()),
        (["broker.toml"], Options(config="broker.toml")),
        (["./demo"], Options(config="./demo")),
        (["broker.toml", "--import-keys", "-"], Options(config="broker.toml", import_keys="-")),
        (["--import-keys", "f", "--dry-run"], Options(import_keys="f", dry_run=True)),
        (["--export-keys", "f", "--force", "c"], Options(config="c", export_keys="f", force=True)),
        (["--check", "--ready-file", "r"], Options(check=True, ready_file=Path("r"))),
        (["migrate", "--from", "redis://old", "c.toml"], Options(config="c.toml", migrate_from="redis://old")),
        (["migrate", "--from", "old", "--dry-run"], Options(migrate_from="old", dry_run=True)),
        (["--import-keys", "f", "--force"], Options(import_keys="f", force=True)),
        (
            ["call", "--config", "c.toml", "mailer", "queue", "list", "--json"],
            Options(config="c.toml", call=("mailer", "queue", "list", "--json")),
        ),
        (["--config", "c.toml", "--check"], Options(config="c.toml", check=True)),
        (["doctor", "--config", "c.toml"], Options(config="c.toml", doctor=True)),
        (["call", "mailer", "--help"], Options(call=("mailer", "--help"))),
        (["doctor", "--json", "c.toml"], Options(config="c.toml", doctor=True, json=True)),
    ],
)
def test_arguments_of_the_old_broker_and_ours_are_read(arguments: list[str], options: Options) -> None:
    assert parse(arguments) == options


def test_demo_has_its_usual_ports_unless_told_otherwise() -> None:
    assert parse(["demo"]).demo == Demo(True, None, 3380, 0, 3381)
    assert parse(["demo", "--no-open", "--site-port", "0", "c.toml"]) == Options(
        config="c.toml", demo=Demo(False, None, 3380, 0, 0)
    )


@pytest.mark.parametrize("service", ["auth-api", "mailer", "key-rotator"])
def test_call_without_a_command_is_told_where_they_stand(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["call", service])
    assert f"say which command of {service}; `{service} --help` shows them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dry-run"],
        ["--force"],
        ["--import-keys", "a", "--export-keys", "b"],
        ["--import-keys"],
        ["a", "b"],
        ["demo", "--site-port", "70000"],
        ["demo", "--check"],
        ["migrate"],
        ["migrate", "--from"],
        ["migrate", "--from", "a", "--force"],
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert "usage: portier-broker" in capsys.readouterr().err


@pytest.fixture
def sockets() -> Iterator[DemoSockets]:
    taken = open_sockets(ANY_PORTS)
    yield taken
    taken.close()


def test_demo_keeps_what_is_configured_but_takes_all_mail(
    sockets: DemoSockets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    for name, value in {
        "BROKER_PUBLIC_URL": "http://broker.test",
        "BROKER_REDIS_URL": "redis://redis.test",
        "BROKER_LISTEN_PORT": "4444",
        "BROKER_FROM_ADDRESS": "me@here.test",
        "BROKER_POSTMARK_TOKEN": "token",
        "BROKER_SMTP_PASSWORD_FILE": str(password),
    }.items():
        monkeypatch.setenv(name, value)
    demo = Demo(False, None, 0, 0, 0)
    environment = demo_environment(demo, load_settings(None), sockets)
    assert environment["BROKER_PUBLIC_URL"] == "http://broker.test"
    assert environment["BROKER_LISTEN_PORT"] == "4444"
    assert environment["BROKER_FROM_ADDRESS"] == "me@here.test"
    assert "BROKER_MEMORY_STORAGE" not in environment
    assert environment["BROKER_MAIL_TRANSPORTS"] == "smtp"
    assert environment["BROKER_SMTP_PASSWORD"] == ""
    assert "BROKER_SMTP_PASSWORD_FILE" not in environment


def test_demo_moves_on_from_a_port_that_is_taken(sockets: DemoSockets) -> None:
    taken = listening_socket(0)
    demo = Demo(False, port_of(taken), 0, 0, 0)
    environment = demo_environment(demo, load_settings(None), sockets)
    port = int(environment["BROKER_LISTEN_PORT"])
    assert port > port_of(taken)
    assert environment["BROKER_PUBLIC_URL"] == f"http://localhost:{port}"
    assert environment["BROKER_MEMORY_STORAGE"] == "true"
    taken.close()


def test_each_service_gets_an_internal_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set(internal_ports(load_settings(None)).values())) == 3
    monkeypatch.setenv("BROKER_INTERNAL_PORT", "0")
    assert len(set(internal_ports(load_settings(None)).values())) == 3
    monkeypatch.setenv("BROKER_INTERNAL_PORT", "4000")
    assert list(internal_ports(load_settings(None)).values()) == [4000, 4001, 4002]


def test_sockets_from_systemd_go_to_auth_api_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4711)
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "4711", "NOTIFY_SOCKET": "/run/x"}
    addresses = find_addresses(load_settings(None), environment)
    assert addresses.listening is None
    specs = service_specs(environment, addresses, config="c.toml", log_format="json")
    assert {spec.name: spec.inherited for spec in specs} == {"auth-api": (3,), "mailer": (), "key-rotator": ()}
    assert [spec.environment.get("LISTEN_FDS") for spec in specs] == ["1", None, None]
    assert all("NOTIFY_SOCKET" not in spec.environment for spec in specs)
    assert all(spec.command[-2:] == ("run", "c.toml") for spec in specs)


def test_socket_activation_of_another_process_is_not_ours() -> None:
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": "1"}
    assert find_addresses(load_settings(None), environment).listening == ("127.0.0.1", 3333)


@pytest.mark.parametrize(
    ("ip", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1"), ("::1", "::1")]
)
def test_any_address_is_reached_by_loopback(ip: str, reached: str) -> None:
    assert address_of(ip) == reached


def test_setting_replaces_the_one_from_a_file_too() -> None:
    assert with_settings({"BROKER_REDIS_URL_FILE": "f", "A": "b"}, redis_url="u") == {"A": "b", "BROKER_REDIS_URL": "u"}


def test_free_port_is_the_wanted_one_where_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port


def test_reader_of_the_settings_that_goes_away_is_no_error_to_tell() -> None:
    command = f"{sys.executable} -m portier_broker --check | head -n 1"
    settings = {"public_url": "https://a.example", "from_address": "a@a.example", "smtp_server": "a.example"}
    environ = os.environ | {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("# portier-broker\n", "")

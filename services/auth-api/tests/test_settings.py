"""What auth-api itself finds wrong with values that have the right form: told at start and by --check."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auth_api.settings import SERVICE, Settings
from service_kit.errors import ConfigurationError
from service_kit.settings import Loaded, load
from shared_store.signing_keys import generate

NEEDED = {"BROKER_REDIS_URL": "redis://127.0.0.1:1", "BROKER_PUBLIC_URL": "http://localhost:3333"}
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def read(file: Path | None = None, /, **settings: str) -> Loaded[Settings]:
    variables = {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    return load(Settings, service=SERVICE, config_path=file, environ={**NEEDED, **variables})


def problem(file: Path | None = None, /, **settings: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(file, **settings)
    [only] = caught.value.problems
    return str(only)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("ip:5", "no slash"),
        ("ip:5/15", "no unit"),
        ("ip:5/15w", "unit 'w' is unknown"),
        ("ip:five/s", "count 'five' is no whole number"),
        ("user:5/s", "flag 'user' is unknown"),
        ("ip:0/s", "lets nobody pass"),
        ("ip:5/0s", "window of 0"),
    ],
)
def test_limit_that_cannot_be_read_is_told_with_its_source(limit: str, words: str) -> None:
    told = problem(limits=f"ip:50/s,{limit}")
    assert told.startswith("limits (environment BROKER_LIMITS): ")
    assert words in told


def test_old_limit_per_email_is_checked_and_told_where_it_stands(write: Write) -> None:
    file = write("broker.toml", '[limit]\nper_email = "5"\n')
    assert f"limits (file {file}, [limit])" in problem(file)
    assert read(limit_per_email="5/min").settings.limits == ("email:5/min",)


@pytest.mark.parametrize("name", ["allowed_domains", "blocked_domains"])
@pytest.mark.parametrize("domain", ["localhost", "192.0.2.1", "example..com", "xn--a.example"])
def test_domain_that_no_address_can_have_is_told(name: str, domain: str) -> None:
    told = problem(**{name: f"good.example,{domain}"})
    assert told.startswith(f"{name} (environment BROKER_{name.upper()}): ")
    assert domain in told


def test_domain_from_a_listed_file_is_checked_too(write: Write) -> None:
    names = write("names", "# ours\ngood.example\nlocalhost\n")
    assert "'localhost'" in problem(allowed_domains=f"@{names}")


def test_override_of_no_domain_is_told(write: Write) -> None:
    file = write("broker.toml", "[domain_overrides]\nlocalhost = []\n")
    assert f"domain_overrides (file {file})" in problem(file)


def test_uncounted_address_that_is_none_is_told() -> None:
    assert "uncounted_emails" in problem(uncounted_emails="monitor@localhost")


def test_algorithm_without_a_key_of_ones_own_is_told(write: Write) -> None:
    key = write("ed.pem", generate("EdDSA").private_pem)
    told = problem(keyfiles=str(key), signing_algs="EdDSA,RS256")
    assert "names RS256, but keyfiles and keytext hold no such key" in told
    assert read(keyfiles=str(key), signing_algs="EdDSA").warnings == ()


def test_key_file_and_block_that_cannot_be_read_are_warned_of_and_left_out(write: Write) -> None:
    good = generate("EdDSA")
    mixed = write("mixed.pem", f"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{good.private_pem}")
    loaded = read(keyfiles=f"/nowhere.pem,{mixed}", signing_algs="EdDSA")
    assert loaded.settings.configured_keys.by_alg == {"EdDSA": (good,)}
    assert len(loaded.warnings) == 2
    assert "/nowhere.pem" in loaded.warnings[0]
    assert f"block 1 in {mixed}" in loaded.warnings[1]
    assert "PRIVATE" not in str(loaded.warnings)


def test_file_of_data_dir_that_cannot_be_used_is_told(write: Write, tmp_path: Path) -> None:
    write("tmpl/home.html", "{% if %}")
    told = problem(data_dir=str(tmp_path))
    assert told.startswith("data_dir (environment BROKER_DATA_DIR): ")
    assert "home.html" in told


def test_everything_that_is_wrong_is_told_in_one_round(write: Write, tmp_path: Path) -> None:
    write("tmpl/home.html", "{% if %}")
    key = write("ed.pem", generate("EdDSA").private_pem)
    file = write(
        "broker.toml",
        f"""
        smtp_port = 25
        listen_port = 70000
        limits = ["ip:5"]
        allowed_domains = ["localhost"]
        keyfiles = ["{key}"]
        data_dir = "{tmp_path}"
        redis_client_cert = "/nowhere.pem"
        """,
    )
    with pytest.raises(ConfigurationError) as told:
        load(Settings, service=SERVICE, config_path=file, environ={"BROKER_REDIS_URL": "redis://h"})
    names = [problem.setting for problem in told.value.problems]
    assert sorted(names) == sorted(
        (
            "smtp_port",
            "listen_port",
            "public_url",
            "redis_client_cert",
            "redis_client_cert",
            "limits",
            "allowed_domains",
            "signing_algs",
            "data_dir",
        )
    )


def test_without_a_redis_everything_else_that_is_wrong_is_told_as_well() -> None:
    with pytest.raises(ConfigurationError) as told:
        load(Settings, service=SERVICE, environ={"BROKER_LIMITS": "ip:5"})
    assert {problem.setting for problem in told.value.problems} == {"redis_url", "public_url", "limits"}


@pytest.mark.parametrize("arguments", [["run"], ["--check"]])
def test_unusable_value_ends_the_command_with_2_on_one_line(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "auth_api", *arguments],
        env={**NEEDED, "BROKER_LIMITS": "ip:5"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "limits (environment BROKER_LIMITS)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_address_that_cannot_be_listened_on_is_told_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "auth_api"],
        env={**NEEDED, "BROKER_LISTEN_IP": "192.0.2.1", "BROKER_INTERNAL_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "set listen_ip and listen_port to what is free" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("key", ["nonsense", "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="])
def test_verification_key_that_is_none_is_told(key: str) -> None:
    told = problem(sendgrid_webhook_key=key, suppression_key="k" * 32)
    assert told.startswith("sendgrid_webhook_key (environment BROKER_SENDGRID_WEBHOOK_KEY): can't be used: it is")


def test_webhook_without_a_key_to_keep_bounces_under_is_told() -> None:
    assert "mailgun_webhook_key" in problem(mailgun_webhook_key="k")
    assert "needs suppression_key" in problem(mailgun_webhook_key="k")

"""`SERVICE doctor`, as an operator runs it, on a real Redis and with a wrong clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared_store.testing.servers import RedisServer

# Debian's package faketime: make system-packages.
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "libfaketime is missing")
SERVICES = ("auth_api", "mailer", "key_rotator")
GOOD = {"maxmemory": "64mb", "maxmemory-policy": "volatile-lru", "appendonly": "yes"}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer("redis7", config=GOOD) as running:
        yield running


def doctor(service: str, redis_url: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "redis_url": redis_url, "public_url": "https://a.example",
        "from_address": "a@a.example", "smtp_server": "a.example",
    }  # fmt: skip
    given = os.environ | environ | {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-P", "-m", service, "doctor", *words]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    return {finding["id"]: finding["severity"] for finding in told["findings"]}


@pytest.mark.parametrize("service", SERVICES)
def test_server_as_it_should_be_ends_with_0(server: RedisServer, service: str) -> None:
    done = doctor(service, server.url, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(findings(done).values()) == {"ok"}


@pytest.mark.parametrize("service", SERVICES)
def test_clock_that_is_ten_minutes_off_ends_with_1(server: RedisServer, service: str) -> None:
    wrong = {"LD_PRELOAD": FAKETIME, "FAKETIME": "+10m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    done = doctor(service, server.url, "--json", **wrong)
    assert done.returncode == 1, done.stdout + done.stderr
    assert findings(done)["clock"] == "warning"


@pytest.mark.parametrize("service", SERVICES)
def test_redis_that_is_away_ends_with_2_and_says_what_to_mend(service: str) -> None:
    done = doctor(service, "redis://127.0.0.1:1")
    assert done.returncode == 2
    assert "ERROR    reachable" in done.stdout
    assert "mend it: the host, the port and redis:// or rediss:// in redis_url" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr

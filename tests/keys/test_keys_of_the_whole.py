"""Keys of a running broker, by the commands that an operator has: moving in, and an emergency."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.conftest import MakeStack
from tests.stack import Stack, until

from shared_store.signing_keys import SigningKey, generate
from shared_store.testing.servers import RedisServer

FAR = 4_000_000_000  # Unix seconds


def _call(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    environ |= {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", *words], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def _kids(stack: Stack) -> list[str]:
    return [key["kid"] for key in httpx.get(f"{stack.broker}/keys.json").json()["keys"]]


@pytest.fixture
def rust_keys() -> tuple[SigningKey, SigningKey]:
    return generate("RS256"), generate("RS256")


def _rust_key_set(current: SigningKey, following: SigningKey) -> str:
    def value(key: SigningKey, expires: int) -> dict[str, object]:
        return {"value": key.private_pem, "expires": {"secs_since_epoch": expires, "nanos_since_epoch": 120_000_000}}

    pair = {"current": value(current, FAR), "next": value(following, FAR + 86400)}
    return json.dumps({"signing_alg": "RS256", **pair, "previous": None})


def test_broker_that_moved_in_serves_the_old_brokers_keys_and_can_revoke_one_of_them(
    make_stack: MakeStack, tmp_path: Path, rust_keys: tuple[SigningKey, SigningKey]
) -> None:
    current, following = rust_keys
    state = {"state_dir": str(tmp_path / "state")}
    with RedisServer("redis7") as old:
        old.ask("SET", "keys:RS256", _rust_key_set(current, following))
        old.ask("SET", "session:x", "not ours to take")
        tried = _call("portier_broker", "migrate", "--from", old.url, "--dry-run", **state)
        assert (tried.returncode, "Nothing was written" in tried.stdout) == (0, True), tried.stderr
        moved = _call("portier_broker", "migrate", "--from", old.url, **state)
        assert moved.returncode == 0, moved.stderr
    with make_stack(memory_storage="false", **state) as running:
        assert _kids(running) == [current.kid, following.kid]
        redis_url = f"unix://{tmp_path}/state/valkey.sock"
        revoked = _call("key_rotator", "revoke", current.kid, "--reason", "drill", redis_url=redis_url)
        assert revoked.returncode == 0, revoked.stderr
        until(lambda: current.kid not in _kids(running))
        assert _kids(running)[0] == following.kid
        told = _call("key_rotator", "log", "--json", redis_url=redis_url)
        assert [entry["change"] for entry in json.loads(told.stdout)] == ["revoke", "import"]
        assert "PRIVATE KEY" not in running.log.read_text() + told.stdout


def test_move_from_what_is_no_rust_broker_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    state = {"state_dir": str(tmp_path / "state")}
    with RedisServer("redis7") as old:
        refused = _call("portier_broker", "migrate", "--from", old.url, **state)
    assert refused.returncode == 1
    assert "no RS256 keys of a Portier Broker" in refused.stderr
    assert "Traceback" not in refused.stderr

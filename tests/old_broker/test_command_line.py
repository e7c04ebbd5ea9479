"""The Rust broker's command line on the real launcher, key-rotator and Redis behind it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared_store.signing_keys import SigningKey, fingerprint, generate, parse_pem
from shared_store.testing.servers import RedisServer

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run `portier-broker` with a configuration that names a Redis of its own."""
    config = tmp_path / "broker.toml"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    with RedisServer("valkey9") as server:
        config.write_text(f'redis_url = "{server.url}"\nsigning_algs = ["RS256", "EdDSA"]\n')

        def launch(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-P", "-m", "portier_broker", str(config), *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env=environ,
                timeout=120,
                check=False,
            )

        yield launch


def keys_in(text: str) -> list[SigningKey]:
    return [key for key in parse_pem(text) if isinstance(key, SigningKey)]


def test_keys_are_imported_and_exported_by_file_and_by_pipe(run: Run, tmp_path: Path) -> None:
    rsa, ed = [generate("RS256") for _ in range(2)], [generate("EdDSA") for _ in range(3)]
    text = "".join(f"a key\n{key.private_pem}" for key in (*rsa, *ed))
    file = tmp_path / "keys.pem"
    file.write_text(text)

    dry = run("--import-keys", "-", "--dry-run", stdin=text)
    assert dry.returncode == 0, dry.stderr
    for key in (*rsa, *ed):
        assert fingerprint(key) in dry.stdout
    assert all(role in dry.stdout for role in ("current", "next", "previous"))
    nothing = run("--export-keys", "-")
    assert (nothing.returncode, nothing.stdout) == (1, "")

    assert run("--import-keys", str(file)).returncode == 0
    exported = run("--export-keys", "-")
    assert exported.returncode == 0
    assert keys_in(exported.stdout) == [*rsa, *ed]
    assert "not in the file" in exported.stderr  # their expiries

    out = tmp_path / "out.pem"
    assert run("--export-keys", str(out)).returncode == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    out.write_text("mine")
    refused = run("--export-keys", str(out))
    assert refused.returncode == 1
    assert out.read_text() == "mine"
    assert run("--export-keys", str(out), "--force").returncode == 0
    assert keys_in(out.read_text()) == [*rsa, *ed]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key in here",
        f"{generate('EdDSA').private_pem}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "".join(generate("EdDSA").private_pem for _ in range(4)),
    ],
    ids=["nothing", "no key", "an unreadable block", "a fourth key"],
)
def test_file_that_cannot_be_used_whole_is_refused_and_nothing_is_written(run: Run, text: str) -> None:
    refused = run("--import-keys", "-", stdin=text)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "PRIVATE" not in refused.stderr
    assert run("--export-keys", "-").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [["--dry-run"], ["--force"], ["--import-keys", "a", "--export-keys", "b"], ["--nonsense"], ["one more"]],
)
def test_arguments_that_make_no_sense_end_it_with_2(run: Run, arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "usage: portier-broker" in ended.stderr

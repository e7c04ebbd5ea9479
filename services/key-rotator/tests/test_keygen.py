from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from key_rotator.errors import KeyGenerationError
from key_rotator.keygen import KeyMaker
from shared_store.signing_keys import generate
from shared_store.testing.servers import wait_until


def _printing(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "printed"
    path.write_text(text)
    return ("cat", str(path))


@pytest.mark.parametrize("bits", [2048, 3072])
async def test_rsa_key_has_the_configured_size_and_the_loop_goes_on_meanwhile(bits: int) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    key = await KeyMaker(rsa_bits=bits).make("RS256")
    ticking.cancel()
    assert key.alg == "RS256"
    assert key.private_key.key_size == bits  # type: ignore[union-attr]
    assert ticks > 10


async def test_ed25519_key_is_new_each_time() -> None:
    maker = KeyMaker(rsa_bits=2048, rsa_command=("false",))
    assert (await maker.make("EdDSA")).kid != (await maker.make("EdDSA")).kid


async def test_configured_command_prints_the_key(tmp_path: Path) -> None:
    key = generate("RS256")
    command = _printing(tmp_path, f"made for you:\n{key.private_pem}")
    assert await KeyMaker(rsa_bits=2048, rsa_command=command).make("RS256") == key


async def test_command_is_run_without_a_shell() -> None:
    with pytest.raises(KeyGenerationError, match="found 0"):
        await KeyMaker(rsa_bits=2048, rsa_command=("echo", "$(touch x); |")).make("RS256")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/no/such/program",), "can't be started"),
        (("sh", "-c", "echo no entropy >&2; exit 3"), "exit code 3: no entropy"),
        (("sh", "-c", "kill -9 $$"), "exit code -9: no message"),
        (("true",), "found 0"),
        (("head", "-c", "1000000", "/dev/zero"), "more than 65536"),
        (("sh", "-c", "yes >&2"), "more than 65536"),
    ],
)
async def test_command_that_fails_is_told_with_the_reason(command: tuple[str, ...], reason: str) -> None:
    with pytest.raises(KeyGenerationError, match=reason):
        await KeyMaker(rsa_bits=2048, rsa_command=command).make("RS256")


async def test_command_that_prints_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    command = _printing(tmp_path, generate("EdDSA").private_pem)
    with pytest.raises(KeyGenerationError, match="not RSA"):
        await KeyMaker(rsa_bits=2048, rsa_command=command).make("RS256")


async def test_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = ("sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait")
    with pytest.raises(KeyGenerationError, match=r"did not end within 0\.5 s"):
        await KeyMaker(rsa_bits=2048, rsa_command=command, command_bound=0.5).make("RS256")
    pid = await asyncio.to_thread(pid_file.read_text)
    await asyncio.to_thread(wait_until, lambda: _has_ended(int(pid)))


def _has_ended(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
async def test_openssl_is_a_usable_command() -> None:
    assert (await KeyMaker(rsa_bits=2048, rsa_command=("openssl", "genrsa", "2048")).make("RS256")).alg == "RS256"

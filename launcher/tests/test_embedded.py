import asyncio
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from portier_broker import embedded
from portier_broker.embedded import StorePlace, persistent_store, place_in, throwaway_store
from portier_broker.errors import StateDirectoryBusyError, StoreUnavailableError
from portier_broker.guard import Guard
from portier_broker.supervisor import Supervisor

from .conftest import eventually, runs


async def ask(place: StorePlace, *words: str) -> str:
    reader, writer = await asyncio.open_unix_connection(place.socket)
    try:
        writer.write(f"{' '.join(words)}\r\n".encode())
        async with asyncio.timeout(10):
            line = (await reader.readline()).decode().strip()
            if line.startswith("$") and line != "$-1":
                line = (await reader.readline()).decode().strip()
            elif line.startswith("*"):
                line = [(await reader.readline()).decode().strip() for _ in range(2 * int(line[1:]))][-1]
            return line
    finally:
        writer.close()
        await writer.wait_closed()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_data_survive_a_restart_of_the_launcher(supervisor: Supervisor, tmp_path: Path) -> None:
    async with persistent_store(supervisor, place_in(tmp_path / "state")) as place:
        assert await ask(place, "SET", "a", "kept") == "+OK"
    async with persistent_store(supervisor, place_in(tmp_path / "state")) as place:
        assert await ask(place, "GET", "a") == "kept"


async def test_killed_server_is_started_again_with_the_same_data(supervisor: Supervisor, tmp_path: Path) -> None:
    async with persistent_store(supervisor, place_in(tmp_path / "state")) as place:
        assert await ask(place, "SET", "a", "kept") == "+OK"
        first = supervisor.pids["valkey"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.pids.get("valkey", first) != first)
        await embedded.wait_until_answering(place)
        assert await ask(place, "GET", "a") == "kept"


async def test_server_is_configured_to_keep_what_has_no_ttl(supervisor: Supervisor, tmp_path: Path) -> None:
    async with persistent_store(supervisor, place_in(tmp_path / "state")) as place:
        for name, value in {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "volatile-lru",
            "stop-writes-on-bgsave-error": "yes",
            "port": "0",
            "save": "3600 1 300 100 60 10000",
        }.items():
            assert await ask(place, "CONFIG", "GET", name) == value


async def test_directory_and_socket_are_for_their_owner_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o755)
    async with persistent_store(supervisor, place_in(state_dir)) as place:
        assert mode(state_dir) == 0o700
        assert mode(place.socket) == 0o700
        assert place.url == f"unix://{place.socket}"
        assert "Ready to accept connections" in place.log.read_text()


async def test_throwaway_store_writes_nothing_and_leaves_nothing(supervisor: Supervisor, guard: Guard) -> None:
    async with throwaway_store(supervisor, guard=guard) as place:
        assert mode(place.directory) == 0o700
        assert await ask(place, "SET", "a", "b") == "+OK"
        assert await ask(place, "CONFIG", "GET", "save") == ""
        assert await ask(place, "CONFIG", "GET", "appendonly") == "no"
        pid = supervisor.pids["valkey"]
    assert not runs(pid)
    assert not place.directory.exists()


async def test_second_launcher_on_a_state_directory_is_told_who_has_it(supervisor: Supervisor, tmp_path: Path) -> None:
    place = place_in(tmp_path / "state")
    async with persistent_store(supervisor, place):
        with pytest.raises(StateDirectoryBusyError, match=rf"in use by another .*process {os.getpid()}.*redis_url"):
            async with persistent_store(supervisor, place):
                pass
        assert await ask(place, "PING") == "+PONG"


async def test_server_of_a_killed_launcher_keeps_the_lock_until_it_has_ended(tmp_path: Path) -> None:
    place = place_in(tmp_path / "state")
    async with embedded.locked(place.directory) as lock:
        # Another owner of the same open file, as the server is; the launcher that it names is dead.
        heir = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, pass_fds=(lock,)
        )
        ended = await asyncio.create_subprocess_exec("true")
        await ended.wait()
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(ended.pid).encode(), 0)
    taken = asyncio.Event()

    async def take() -> None:
        async with embedded.locked(place.directory):
            taken.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take())
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not taken.is_set()
        await heir.communicate(b"\n")
    assert taken.is_set()


async def test_path_too_long_for_a_socket_is_replaced_by_a_short_private_one(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        async with persistent_store(supervisor, place_in(tmp_path / ("very-" * 30))) as place:
            assert place.socket.is_relative_to(runtime)
            assert mode(place.socket.parent) == 0o700
            assert await ask(place, "PING") == "+PONG"
            assert place_in(place.directory).socket == place.socket


async def test_directory_with_odd_characters_works(supervisor: Supervisor, tmp_path: Path) -> None:
    async with persistent_store(supervisor, place_in(tmp_path / 'a "b" ü %20\\')) as place:
        assert await ask(place, "PING") == "+PONG"
        assert "%22b%22" in place.url


def test_symbolic_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StoreUnavailableError, match="not a directory of this user"):
        place_in(tmp_path / "link")


def test_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="cannot use the state_dir"):
        place_in(tmp_path / "file" / "state")


def test_platform_without_a_server_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    with pytest.raises(StoreUnavailableError, match="redis_url"):
        embedded.server_binary()


async def test_server_that_never_answers_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    place = place_in(tmp_path / "state")
    place.log.write_text("Fatal error loading the DB\n")
    with pytest.raises(StoreUnavailableError, match="Fatal error loading the DB"):
        await embedded.wait_until_answering(place, timeout=0)


def test_state_directory_is_by_default_below_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert embedded.default_state_dir() == tmp_path / "portier-broker"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert embedded.default_state_dir() == Path("/home/someone/.local/state/portier-broker")

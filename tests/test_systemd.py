"""systemd's side of the launcher: a socket that is open already, TCP or unix, and a word when all is ready."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .stack import BOUND, READY_BOUND

# What systemd does between fork and exec.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-P", "-m", "portier_broker"])
"""


@pytest.fixture(params=["tcp", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    made = socket.socket(socket.AF_INET if request.param == "tcp" else socket.AF_UNIX)
    with made:
        made.bind(("127.0.0.1", 0) if request.param == "tcp" else str(tmp_path / "broker.sock"))
        made.listen()
        yield made


def client_of(listener: socket.socket) -> httpx.Client:
    name = listener.getsockname()
    if isinstance(name, str):
        return httpx.Client(transport=httpx.HTTPTransport(uds=name), base_url="http://localhost", timeout=BOUND)
    return httpx.Client(base_url=f"http://127.0.0.1:{name[1]}", timeout=BOUND, trust_env=False)


def test_launcher_serves_the_socket_it_is_given_and_tells_when_it_is_ready(
    listener: socket.socket, tmp_path: Path
) -> None:
    settings = {
        "public_url": "http://localhost:3333",
        "listen_port": "1",  # nobody may listen there, and nobody has to
        "memory_storage": "true",
        "internal_port": "0",
        "smtp_server": "127.0.0.1:1",
        "from_address": "login@broker.example",
        "limits": "ip:1/h",
        "mail_wait": "0",
        "blocked_domains": "blocked.example",
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    environ |= {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (tmp_path / "log").open("wb") as log:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(READY_BOUND)
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listener.fileno())],
            env={**environ, "NOTIFY_SOCKET": str(tmp_path / "notify.sock")},
            pass_fds=(listener.fileno(),),
            stdout=log,
            stderr=log,
        )
        try:
            assert manager.recv(100) == b"READY=1", (tmp_path / "log").read_text()[-3000:]
            with client_of(listener) as client:
                assert client.get("/ver.txt").text.startswith("Portier ")
                assert client.get("/keys.json").status_code == 200
                # Both peers are trusted proxies, so whom they name is the client.
                statuses = [ask(client, ip) for ip in ("192.0.2.1", "192.0.2.1", "192.0.2.2")]
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(BOUND) == 0
        finally:
            process.kill()
            process.wait(BOUND)
    assert statuses == [303, 429, 303]


def ask(client: httpx.Client, ip: str) -> int:
    query = {
        "client_id": "https://site.example",
        "redirect_uri": "https://site.example/",
        "response_type": "code",
        "scope": "openid",
        "login_hint": "a@blocked.example",
    }
    return client.get("/auth", params=query, headers={"x-forwarded-for": ip}).status_code

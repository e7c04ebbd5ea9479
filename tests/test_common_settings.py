"""What the settings do that all services share: each of the three as a process, alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from auth_api.settings import Settings as ApiSettings
from key_rotator.settings import Settings as RotatorSettings
from mailer.settings import Settings as MailerSettings
from service_kit.settings import CommonSettings, load
from shared_store.errors import StoreError
from shared_store.store import Store
from shared_store.testing.deployments import tls_server
from shared_store.testing.servers import RedisServer

from .stack import free_port, until

SERVICES = {"auth-api": "auth_api", "mailer": "mailer", "key-rotator": "key_rotator"}
EACH = pytest.mark.parametrize("service", SERVICES)


@dataclass
class Service:
    """One service as a process."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def redis(self) -> str:
        """What /readyz says of Redis: "ready", or the reason why not."""
        checks = httpx.get(f"http://{self.host}:{self.port}/readyz", trust_env=False).json()["checks"]
        [check] = [check for check in checks if check["name"] == "redis"]
        return "ready" if check["ready"] else str(check["reason"])


def _environ(**settings: str) -> dict[str, str]:
    needed = {
        "public_url": "http://localhost:3333",
        "from_address": "login@broker.example",
        "smtp_server": "127.0.0.1:1",
    }
    return {f"BROKER_{name.upper()}": value for name, value in {**needed, **settings}.items()}


@contextlib.contextmanager
def running(name: str, folder: Path, **settings: str) -> Iterator[Service]:
    """Run a service while the block runs; settings are BROKER_* without the prefix."""
    service = Service(folder, settings.get("internal_ip", "127.0.0.1"))
    ports = {"listen_port": str(free_port()), "internal_port": str(service.port)}
    environ = _environ(**{**ports, **settings})
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", SERVICES[name], "run"], env=environ, stdout=log, stderr=log
        )
    try:
        yield service
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with RedisServer("valkey9") as server:
        yield server


@EACH
@pytest.mark.setting("redis_url", "redis_ca_file", "redis_client_cert", "redis_client_key")
@pytest.mark.setting("internal_ip", "internal_port")
def test_store_is_reached_with_its_certificates_and_the_internal_port_is_where_it_is_wanted(
    service: str, tmp_path: Path
) -> None:
    with tls_server("redis7", client_certificates=True) as server:
        options = server.options
        certificates = {
            "redis_ca_file": str(options.ca_file),
            "redis_client_cert": str(options.client_cert),
            "redis_client_key": str(options.client_key),
        }
        with running(service, tmp_path, redis_url=server.url, internal_ip="127.0.0.2", **certificates) as it:
            until(lambda: it.redis() == "ready")
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://127.0.0.1:{it.port}/healthz", trust_env=False)


SETTINGS: dict[str, type[CommonSettings]] = {
    "auth-api": ApiSettings,
    "mailer": MailerSettings,
    "key-rotator": RotatorSettings,
}


@EACH
@pytest.mark.setting("redis_timeout", "redis_max_connections")
async def test_redis_that_does_not_answer_is_waited_for_as_long_as_set(service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        environ = _environ(redis_url=url, redis_timeout="1", redis_max_connections="3")
        settings = load(SETTINGS[service], service=service, environ=environ).settings
        async with Store.of(settings, client_name=service) as store, asyncio.timeout(5):  # unset, it would take 6 s
            assert store.options.max_connections == 3
            with pytest.raises(StoreError):
                await store.ping()


@EACH
@pytest.mark.setting("log_level", "log_format")
def test_log_has_the_severities_and_the_form_that_are_set(service: str, tmp_path: Path) -> None:
    settings = {"redis_url": "redis://127.0.0.1:1", "log_level": "warning", "log_format": "console"}
    with running(service, tmp_path, **settings) as it:
        until(lambda: "[warning" in it.log)  # Redis is away
        assert "[info" not in it.log  # such as that the internal port is open
        assert not it.log.startswith("{")


@pytest.mark.setting("listen_ip", "listen_port")
def test_broker_listens_where_it_is_told(valkey: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    with running("auth-api", tmp_path, redis_url=valkey.url, listen_ip="::1", listen_port=str(port)):
        until(lambda: httpx.get(f"http://[::1]:{port}/ver.txt", trust_env=False).status_code == 200)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/ver.txt", trust_env=False)


@pytest.mark.setting("rsa_modulus_bits")
def test_new_rsa_keys_have_the_size_that_is_set(tmp_path: Path) -> None:
    with RedisServer("valkey9") as own:
        with running("key-rotator", tmp_path, redis_url=own.url, rsa_modulus_bits="3072") as rotator:
            until(lambda: "keys_ready" in rotator.log)
        port = free_port()
        with running("auth-api", tmp_path, redis_url=own.url, listen_port=str(port)):
            answer = until(lambda: _keys(port))
    for key in answer["keys"]:
        assert len(urlsafe_b64decode(key["n"] + "==")) * 8 == 3072


def _keys(port: int) -> dict[str, list[dict[str, str]]] | None:
    answer = httpx.get(f"http://127.0.0.1:{port}/keys.json", trust_env=False)
    found: dict[str, list[dict[str, str]]] = answer.json()
    return found if answer.status_code == 200 else None

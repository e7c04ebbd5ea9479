"""The container engine from the tests' side: bounded commands, and one compose project with all services."""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
SERVICES = ("auth-api", "mailer", "key-rotator")
SCALE = {"auth-api": 3, "mailer": 2, "key-rotator": 2}
VERSION = "test"  # the images' tag
BOUND = 60.0  # seconds

T = TypeVar("T")


def docker(*arguments: str, bound: float = BOUND, check: bool = True) -> str:
    """Run a docker command; what it printed. The environment's BROKER_* stay out of it."""
    environment = {name: text for name, text in os.environ.items() if name in ("PATH", "HOME") or "DOCKER" in name}
    done = subprocess.run(
        ["docker", *arguments], check=False, capture_output=True, text=True, timeout=bound, env=environment
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr if not check else done.stdout


def image(service: str) -> str:
    return f"portier/{service}:{VERSION}"


def inspect(name: str) -> dict[str, Any]:
    """What the engine knows of a container or an image."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def eventually(condition: Callable[[], object], what: str, *, bound: float = BOUND) -> None:
    deadline = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < deadline, f"waited {bound} s in vain: {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass(frozen=True)
class Mail:
    """What a person needs of a mail."""

    session: str
    code: str


@dataclass(frozen=True)
class Project:
    """One compose project: Redis, the services, the proxy and the mail catcher."""

    name: str
    env_file: Path
    broker: str
    inbox: str

    @classmethod
    def prepare(cls, folder: Path) -> "Project":
        """Write settings and secrets, as an operator would."""
        broker_port, inbox_port = free_port(), free_port()
        vault = folder / "secrets"
        subprocess.run([ROOT / "docker" / "make-secrets", vault], check=True, stdout=subprocess.DEVNULL)
        env_file = folder / "test.env"
        env_file.write_text(
            f"BROKER_PUBLIC_URL=http://localhost:{broker_port}\n"
            f"PROXY_LISTEN=127.0.0.1:{broker_port}\n"
            f"MAILCATCHER_LISTEN=127.0.0.1:{inbox_port}\n"
            "BROKER_ALLOWED_DOMAINS=portier.test\n"
            f"SECRETS={vault}\n"
            f"VERSION={VERSION}\n"
            f"ENV_FILE={env_file}\n"
        )
        name = f"portier-test-{os.getpid()}"
        return cls(name, env_file, f"http://localhost:{broker_port}", f"http://localhost:{inbox_port}")

    def compose(self, *arguments: str, bound: float = BOUND, check: bool = True) -> str:
        files = ("-p", self.name, "-f", str(COMPOSE_FILE), "--env-file", str(self.env_file))
        return docker("compose", *files, "--profile", "mailcatcher", *arguments, bound=bound, check=check)

    def up(self) -> None:
        """Have everything run and ready; what runs already stays as it is."""
        scale = [word for service, number in SCALE.items() for word in ("--scale", f"{service}={number}")]
        self.compose("up", "--detach", "--wait", "--wait-timeout", "90", "--no-recreate", *scale, bound=120)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

    def instances(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return self.compose("ps", "--quiet", service).split()

    def kill(self, container: str) -> None:
        docker("kill", container)

    def address(self, container: str) -> str:
        """A container's address on the network that the proxy is on."""
        address: str = inspect(container)["NetworkSettings"]["Networks"][f"{self.name}_front"]["IPAddress"]
        return address

    def upstreams(self, request: str) -> list[str]:
        """The addresses that answered such requests (`GET /path`), as the proxy's log tells."""
        [proxy] = self.instances("proxy")
        lines = [json.loads(line) for line in docker("logs", proxy).splitlines() if line.startswith("{")]
        return [one["upstream"] for one in lines if f"{one['method']} {one['path']}" == request]

    def with_instance(self, request: str, act: Callable[[], T]) -> tuple[T, str]:
        """Do something that ends in such a request; what it gave, and the id of the auth-api that answered."""
        before = len(self.upstreams(request))
        result = act()
        eventually(lambda: len(self.upstreams(request)) > before, f"{request} in the proxy's log")
        address = self.upstreams(request)[-1].rpartition(", ")[2].partition(":")[0]
        return result, next(one for one in self.instances("auth-api") if self.address(one) == address)

    def redis(self, *words: str) -> str:
        url = (self.env_file.parent / "secrets" / "redis_url.operator").read_text().strip()
        return self.compose("exec", "-T", "redis", "redis-cli", "--no-auth-warning", "-u", url, *words).strip()

    def mails(self, address: str) -> list[Mail]:
        """The login mails that an address got."""
        answer = httpx.get(f"{self.inbox}/mails.json", timeout=BOUND)
        assert answer.status_code == 200
        return [self._read(mail["text"]) for mail in answer.json() if mail["recipients"] == [address]]

    def mail(self, address: str) -> Mail:
        eventually(lambda: self.mails(address), f"a mail to {address}")
        return self.mails(address)[0]

    def _read(self, text: str) -> Mail:
        link = re.search(r"/confirm\?session=([^&\s]+)&code=(\S+)", text)
        assert link, text
        return Mail(link[1], link[2])

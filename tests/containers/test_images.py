"""What lies in the images, and what does not."""

import json
import re
from typing import Any

import pytest

from .engine import ROOT, SERVICES, docker, image, inspect

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600), pytest.mark.usefixtures("prepared")]

OWN = {"shared-store", "service-kit"}
FOREIGN = {
    "auth-api": {"mailer", "key-rotator", "aiosmtplib"},
    "mailer": {"auth-api", "key-rotator", "fastapi", "uvicorn", "pyjwt"},
    "key-rotator": {"auth-api", "mailer", "fastapi", "uvicorn", "aiosmtplib", "httpx", "jinja2"},
}
LOOK_INSIDE = """
import importlib.metadata, json, os, shutil, sys
print(json.dumps({
    "packages": sorted({d.name.lower().replace("_", "-") for d in importlib.metadata.distributions()}),
    "compilers": [tool for tool in ("gcc", "cc", "g++", "make", "rustc") if shutil.which(tool)],
    "uid": os.getuid(),
    "pip_in_venv": os.path.exists("/opt/venv/bin/pip"),
    "pip_cache": os.path.exists(os.path.expanduser("~/.cache/pip")),
    "writable": [path for path in sys.path if os.access(path, os.W_OK)],
}))
"""


def look_inside(service: str) -> dict[str, Any]:
    hardened = ("--read-only", "--cap-drop", "ALL", "--network", "none")
    out = docker("run", "--rm", *hardened, "--entrypoint", "python", image(service), "-c", LOOK_INSIDE)
    seen: dict[str, Any] = json.loads(out)
    return seen


def locked(service: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{service}.txt").read_text().splitlines()
    return {found[1].lower().replace("_", "-") for line in lines if (found := re.match(r"([\w.-]+)==", line))}


@pytest.mark.parametrize("service", SERVICES)
def test_image_holds_its_own_services_packages_alone(service: str) -> None:
    packages = set(look_inside(service)["packages"])
    assert packages <= locked(service) | OWN | {service}
    assert OWN | {service} <= packages
    assert not packages & FOREIGN[service]


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_as_a_user_who_can_change_nothing_and_has_no_tools(service: str) -> None:
    seen = look_inside(service)
    assert seen["uid"] == 10001
    assert seen["compilers"] == []
    assert seen["writable"] == []
    assert not seen["pip_in_venv"]
    assert not seen["pip_cache"]


@pytest.mark.parametrize("service", SERVICES)
def test_image_says_how_to_start_stop_and_check_it(service: str) -> None:
    config = inspect(image(service))["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == [service]
    assert config["Cmd"] == ["run"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.title"].endswith(service)
    assert docker("run", "--rm", "--read-only", image(service), "--version").startswith(f"{service} ")

"""A service that has no Redis to reach."""

import secrets
from collections.abc import Iterator

import pytest

from .engine import SERVICES, Project, docker, eventually, image, inspect

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

SETTINGS = {
    "BROKER_PUBLIC_URL": "http://localhost:3333",
    "BROKER_REDIS_URL": "redis://nowhere.invalid:6379/0",
    "BROKER_FROM_ADDRESS": "login@broker.invalid",
    "BROKER_SMTP_SERVER": "mail.invalid:25",
}


@pytest.fixture(params=SERVICES)
def lonely(prepared: Project, request: pytest.FixtureRequest) -> Iterator[str]:
    """One service alone, with no Redis anywhere."""
    name = f"{prepared.name}-alone-{secrets.token_hex(3)}"
    settings = [word for variable, text in SETTINGS.items() for word in ("--env", f"{variable}={text}")]
    health = ("--health-interval", "1s", "--health-start-period", "0s", "--health-retries", "2")
    try:
        docker("run", "--detach", "--init", "--read-only", "--restart", "unless-stopped", "--name", name, *health,
               *settings, image(request.param))  # fmt: skip
        yield name
    finally:
        docker("rm", "--force", name, check=False)


def test_service_without_redis_stays_up_not_ready_and_says_why(lonely: str) -> None:
    eventually(lambda: inspect(lonely)["State"]["Health"]["Status"] == "unhealthy", "it says that it is not ready")
    healthcheck = ("exec", lonely, "python", "-m", "service_kit.healthcheck", "--path")
    assert '"alive": true' in docker(*healthcheck, "/healthz")
    reasons = docker(*healthcheck, "/readyz", check=False)
    assert '"ready": false' in reasons
    assert "nowhere.invalid" in reasons
    eventually(lambda: docker("logs", lonely, check=False).count("nowhere.invalid") >= 2, "the log says so repeatedly")
    state = inspect(lonely)
    assert state["State"]["Status"] == "running"
    assert state["RestartCount"] == 0

"""Tests that need a container engine; collected only with RUN_CONTAINER_TESTS=1, as `make test-containers` sets it."""

import os
from collections.abc import Iterator

import pytest

from .engine import SERVICES, Project, docker, image, inspect

collect_ignore_glob = [] if os.environ.get("RUN_CONTAINER_TESTS") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose images are built and of which nothing runs."""
    project = Project.prepare(tmp_path_factory.mktemp("project"))
    project.compose("build", "--quiet", bound=540)
    return project


@pytest.fixture(scope="session")
def project(prepared: Project) -> Iterator[Project]:
    """The whole broker, three times auth-api and twice the others."""
    try:
        prepared.up()
        yield prepared
    finally:
        print(prepared.compose("ps", "--all", check=False))
        print(prepared.compose("logs", "--tail", "40", check=False))
        prepared.down()


@pytest.fixture
def whole(project: Project) -> Project:
    """The same with every instance up, whatever the test before has killed."""
    project.up()
    return project


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the images' sizes: growth is worth a look."""
    if not collect_ignore_glob:
        for service in SERVICES:
            megabytes = inspect(image(service))["Size"] / 1e6 if docker("images", "-q", image(service)) else 0
            terminalreporter.write_line(f"image {service}: {megabytes:.0f} MB")

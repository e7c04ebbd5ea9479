"""What the tests that need a container engine share: the images, and the whole broker running in them."""

from collections.abc import Iterator

import pytest

from .engine import SERVICES, Project, image, inspect

BUILT = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Project:
    """A project whose images are built and of which nothing runs."""
    project = Project.prepare(tmp_path_factory.mktemp("project"))
    project.compose("build", "--quiet", bound=540)
    pytestconfig.stash[BUILT] = True
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the images' sizes: growth is worth a look."""
    for service in SERVICES if BUILT in config.stash else ():
        terminalreporter.write_line(f"image {service}: {inspect(image(service))['Size'] / 1e6:.0f} MB")

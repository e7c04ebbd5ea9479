"""What every test run has: the store's fixtures, and hypothesis without a deadline, since no test asserts timing."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

pytest_plugins = ["shared_store.testing.fixtures"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """For tests that configure logging, as command lines do: other tests look at what is logged, too."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()

"""What tests of the whole share: a broker that runs, for all tests of a worker or with settings of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from . import stack as stacks

MakeStack = Callable[..., contextlib.AbstractContextManager[stacks.Stack]]


@pytest.fixture(scope="session")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> MakeStack:
    """Start the whole broker with settings (BROKER_* without the prefix); see `stack.stack`."""
    return lambda **settings: stacks.stack(tmp_path_factory.mktemp("stack"), **settings)


@pytest.fixture(scope="session")
def stack(make_stack: MakeStack) -> Iterator[stacks.Stack]:
    """One broker for all tests of this worker: they use addresses of their own, and break nothing."""
    with make_stack(signing_algs="RS256,EdDSA") as running:
        yield running

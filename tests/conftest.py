"""What tests of the whole share: a broker that runs, for all tests of a worker or with settings of one's own."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from . import stack as stacks

BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MakeStack = Callable[..., contextlib.AbstractContextManager[stacks.Stack]]


@pytest.fixture(scope="session")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> MakeStack:
    """Start the whole broker with arguments and settings (BROKER_* without the prefix); see `stack.stack`."""
    return lambda *arguments, **settings: stacks.stack(tmp_path_factory.mktemp("stack"), *arguments, **settings)


@pytest.fixture(scope="session")
def stack(make_stack: MakeStack) -> Iterator[stacks.Stack]:
    """One broker for all tests of this worker: they use addresses of their own, and break nothing."""
    with make_stack(signing_algs="RS256,EdDSA") as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: make system-packages")
        pytest.skip("Chromium is not installed: make system-packages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()

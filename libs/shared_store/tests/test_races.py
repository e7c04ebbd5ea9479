"""Exactly once, over several processes with many tasks each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared_store import auth_codes, logins
from shared_store.logins import StoredLogin, new_session_id
from shared_store.store import Store
from shared_store.testing.deployments import Deployment

PROCESSES, TASKS = 4, 75


def race(where: Deployment, what: str, subject: str) -> int:
    """Let all tasks of all processes try the same at once; tells how many succeeded."""
    ca_file = str(where.options.ca_file or "")
    words = [sys.executable, str(Path(__file__).with_name("racer.py")), where.url, ca_file, what, subject, str(TASKS)]
    racers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        start_all(racers)
        return sum(int(racer.communicate(timeout=60)[0]) for racer in racers)
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def start_all(racers: list[subprocess.Popen[str]]) -> None:
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()


async def test_of_300_confirmations_at_once_one_succeeds(store: Store, any_server: Deployment) -> None:
    session = new_session_id()
    call = logins.save_for_code(session, StoredLogin("{}", "{}"), code="right", browser_secret="b", ttl=900)
    await store.run(call)
    assert race(any_server, "confirm", session) == 1


async def test_of_300_redemptions_at_once_one_succeeds(store: Store, any_server: Deployment) -> None:
    code = auth_codes.new_auth_code()
    await store.run(auth_codes.save(code, grant="g", claims="c", ttl=60))
    assert race(any_server, "redeem", code) == 1


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("what", "winners"), [("lock", 1), ("hit", 5)])
async def test_of_300_attempts_at_once_as_many_succeed_as_may(any_server: Deployment, what: str, winners: int) -> None:
    assert race(any_server, what, "subject") == winners

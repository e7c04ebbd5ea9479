"""Exactly once, over several processes with many tasks each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared_store import auth_codes, logins
from shared_store.logins import StoredLogin, new_session_id
from shared_store.store import Store
from shared_store.testing.deployments import Deployment

PROCESSES, TASKS = 4, 75


def race(where: Deployment, *subjects: str) -> list[int]:
    """Let all tasks of all processes try the same at once, subject by subject; tells how many succeeded in each."""
    files = (where.options.ca_file, where.options.client_cert, where.options.client_key)
    words = [sys.executable, str(Path(__file__).with_name("racer.py")), where.url, *(str(file or "") for file in files)]
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen([*words, str(TASKS), *subjects], stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        counts = [[int(line) for line in racer.communicate(timeout=60)[0].split()] for racer in racers]
        return [sum(count) for count in zip(*counts, strict=True)]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


async def test_of_300_attempts_at_once_from_4_processes_as_many_succeed_as_may(
    store: Store, any_server: Deployment
) -> None:
    session, code = new_session_id(), auth_codes.new_auth_code()
    call = logins.save_for_code(session, StoredLogin("{}", "{}"), code="right", browser_secret="b", ttl=900)
    await store.run(call)
    await store.run(auth_codes.save(code, grant="g", claims="c", ttl=60))
    subjects = (f"confirm:{session}", f"redeem:{code}", "lock:rotation", "hit:a@b.example")
    assert race(any_server, *subjects) == [1, 1, 1, 5]

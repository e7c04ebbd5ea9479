"""No mail is lost, late, or sent twice for an unknown reason, whatever fails. `make soak-mail` is the long form."""

from __future__ import annotations

import os

import pytest

from .soak import Plan, Soak, closing_line

JOBS = int(os.environ.get("JOBS", "100000"))
SHORT = Plan(jobs=2000, rounds=1, stop=17, smtp_down=4, redis_down=1, full=2, smtp_takes=0.15, kill_every=15)
LONG = Plan(jobs=JOBS, rounds=4, stop=30, smtp_down=60, redis_down=3, full=15, smtp_takes=0.2, kill_every=8)


@pytest.mark.timeout(300)
async def test_jobs_survive_every_fault_once() -> None:
    await survive(SHORT)


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_jobs_survive_all_faults_again_and_again() -> None:
    await survive(LONG)


async def survive(plan: Plan) -> None:
    def report(line: str) -> None:
        print(line, flush=True)

    books = await Soak(plan, report).run()
    outcome = closing_line(books, report)
    found = [*books.lost, *books.late, *(job for job in books.accepted if None in books.explain(job))]
    assert outcome == (0, 0, 0), "\n\n".join(books.story(job) for job in found[:5])

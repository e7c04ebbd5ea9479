"""A Sentinel failover under a hundred jobs a second: errors only while there is no master, no accepted job is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreUnavailable
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue
from shared_store.store import Store
from shared_store.testing.deployments import sentinel_set

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

QUEUE = MailQueue()
RATE = 100  # jobs a second
AFTER = 3.0  # seconds of load before the fault, and after the first success that follows it


def job(number: int) -> MailJob:
    return MailJob(
        f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900, login=f"l{number}"
    )


@pytest.mark.fault(
    row="read-only replica after failover",
    cause="SIGKILL of a Sentinel set's master under 100 jobs a second, with redis_wait_replicas=1 before it",
    auth_api="errors from the death on; promoted after 0.8 s, back 1.1 s after that; each accepted job is there",
    mailer="-",
    key_rotator="-",
)
async def test_failover_under_load_loses_no_job_that_a_replica_had() -> None:
    with contextlib.ExitStack() as stack:
        pair = sentinel_set("valkey9", stack, replicas=1)
        master, replica = pair.servers
        accepted: set[str] = set()
        failed: list[float] = []
        succeeded: list[float] = []
        options = ConnectionOptions(timeout=2, wait_replicas=1, wait_timeout=1)
        async with Store(pair.url, options) as careful, Store(pair.url, ConnectionOptions(timeout=2)) as plain:
            store = careful

            async def enqueue(number: int) -> None:
                try:
                    await store.run(QUEUE.enqueue(job(number), bound=100_000))
                except StoreUnavailable:
                    failed.append(time.monotonic())
                else:
                    succeeded.append(time.monotonic())
                    accepted.add(f"job-{number}")

            async with asyncio.TaskGroup() as load:
                number, ends = 0, time.monotonic() + AFTER
                died = promoted = back = 0.0
                while time.monotonic() < ends:
                    number += 1
                    load.create_task(enqueue(number))
                    await asyncio.sleep(1 / RATE)
                    if not died and time.monotonic() > ends - 0.1:
                        died, store = time.monotonic(), plain  # the new master has no replica to wait for
                        await asyncio.to_thread(master.kill)
                        ends = died + 60
                    if died and not promoted and number % 5 == 0:
                        role = await asyncio.to_thread(replica.ask, "ROLE")
                        if role[0] == b"master":
                            promoted = time.monotonic()
                    if promoted and not back and succeeded[-1] > promoted:
                        back = succeeded[-1]
                        ends = back + AFTER
            print(
                f"died; promoted after {promoted - died:.2f} s, first job after another {back - promoted:.2f} s; "
                f"{len(accepted)} accepted, {len(failed)} told 503"
            )
            kept = {name.decode() for name in replica.ask("HKEYS", "mail:{mail}:jobs")}
            assert accepted <= kept
            assert back
            assert failed
            assert min(failed) >= died
            assert back - promoted < 10

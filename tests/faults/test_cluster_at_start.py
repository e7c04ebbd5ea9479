"""Services that start while a Cluster's first master is dead and nobody takes over."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from tests.faults.broker import Service, broker, is_told
from tests.stack import until

from shared_store.testing.deployments import deployment

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.mark.parametrize("wants_all_slots", ["yes", "no"])
@pytest.mark.fault(
    row="Redis down at start",
    cause="all are started while the first master of a Cluster, that of the mail queue, is dead, without a replica; "
    "cluster-require-full-coverage yes and no",
    auth_api="stays up, not ready, says that a node can't be reached or slots have no master; /auth 503; with `no` "
    "keys.json is served; ready by itself once the master is back",
    mailer="the same reason; ready by itself",
    key_rotator="the same reason; ready by itself",
)
def test_services_start_without_a_clusters_first_master_and_say_so(tmp_path: Path, wants_all_slots: str) -> None:
    with deployment("valkey9-cluster") as servers:
        for server in servers.servers:
            server.ask("CONFIG", "SET", "cluster-require-full-coverage", wants_all_slots)
            server.ask("CONFIG", "SET", "cluster-node-timeout", "1500")
        first = servers.servers[0]
        with broker(tmp_path, server=nullcontext(first), redis_url=servers.url) as running:
            kids = running.kids()
            first.kill()
            for service in running.services:
                service.end()
                service.start()
            for service in running.services:
                until(lambda service=service: _tells(service), bound=90)  # type: ignore[misc]
            if wants_all_slots == "no":
                until(lambda: running.kids(0) == running.kids(1) == kids)
            assert is_told(running.begin("early@example.org"))
            assert running.nobody_died()
            first.start()
            running.until_ready()
            running.log_in("late@example.org")
            assert running.kids() == kids
            assert httpx.get(f"{running.urls[1]}/.well-known/openid-configuration").status_code == 200


def _tells(service: Service) -> bool:
    return service.says("Redis can't be reached") or service.says("some hash slots have no master")

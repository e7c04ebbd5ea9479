"""Moving a Cluster's slots, in the two ways there are."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from shared_store.testing.deployments import Deployment
from shared_store.testing.servers import RedisServer, wait_until

MAIL = "mail:{mail}:jobs"


def owner_of(key: str, servers: Deployment) -> RedisServer:
    """Give the master that has a key's slot."""
    masters = servers.masters()
    if len(masters) == 1:
        return masters[0]
    slot = slot_of(key, masters[0])
    return next(master for master in masters if slot in slots_of(master))


def slot_of(key: str | bytes, server: RedisServer) -> int:
    """Give a key's slot."""
    return int(server.ask("CLUSTER", "KEYSLOT", key))


def slots_of(master: RedisServer) -> set[int]:
    """Give those that a node has."""
    name = master.ask("CLUSTER", "MYID").decode()
    [line] = [line for line in master.ask("CLUSTER", "NODES").decode().splitlines() if line.startswith(name)]
    ranges = [word.partition("-") for word in line.split()[8:] if not word.startswith("[")]
    return {slot for first, _, last in ranges for slot in range(int(first), int(last or first) + 1)}


def slots_in_use(master: RedisServer) -> dict[str, set[int]]:
    """Give the slots that have keys now, by the first word of those."""
    used: dict[str, set[int]] = {}
    for key in master.ask("KEYS", "*"):
        used.setdefault(key.decode().partition(":")[0], set()).add(slot_of(key, master))
    return used


def move_by_keys(slots: Sequence[int], source: RedisServer, target: RedisServer) -> None:
    """Move slots one by one, as `redis-cli --cluster reshard --cluster-pipeline 100` does."""
    names = [server.ask("CLUSTER", "MYID").decode() for server in (source, target)]
    with redis.Redis(port=source.port) as old, redis.Redis(port=target.port) as new:
        for slot in slots:
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            for server in (new, old):
                server.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])


def move_at_once(slots: Sequence[int], source: RedisServer, target: RedisServer) -> None:
    """Move them together, by the atomic migration that Valkey has from 9 on."""
    name = target.ask("CLUSTER", "MYID")
    ranges = [word for slot in slots for word in (slot, slot)]
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", name)

    def has_ended() -> bool:
        [newest, *_] = source.ask("CLUSTER", "GETSLOTMIGRATIONS")
        state = dict(zip(newest[::2], newest[1::2], strict=True))
        assert state[b"state"] not in (b"failed", b"canceled"), state
        return bool(state[b"state"] == b"success")

    wait_until(has_ended, bound=60)
    wait_until(lambda: slots_of(target).issuperset(slots))

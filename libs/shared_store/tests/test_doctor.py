"""The doctor on real servers that have what it should find."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shared_store.acl import DOCTOR_USER, SERVICES
from shared_store.connection import ConnectionOptions
from shared_store.doctor import report
from shared_store.document_acl import users
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue
from shared_store.server_checks import CHECKS
from shared_store.store import Store
from shared_store.testing.deployments import deployment
from shared_store.testing.servers import RedisServer, free_port, wait_until

PASSWORD = "s3cret"
ROOT = {"user default": "off", "user root": f"on >{PASSWORD} ~* &* +@all"}
GOOD = {"maxmemory": "64mb", "maxmemory-policy": "volatile-lru", "appendonly": "yes"}
DEFAULTS = {**GOOD, "save": "", "stop-writes-on-bgsave-error": "yes", "min-replicas-to-write": "0"}


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with RedisServer("redis7", port=free_port(), config=GOOD) as server:
        for line in users("standalone", password=f">{PASSWORD}"):
            _, name, *rules = line.split()
            if name != "default":
                server.ask("ACL", "SETUSER", name, "reset", *rules)
        yield server


@pytest.fixture
def server(running: RedisServer) -> Iterator[RedisServer]:
    yield running
    running.ask("REPLICAOF", "NO", "ONE")
    for name, value in DEFAULTS.items():
        running.ask("CONFIG", "SET", name, value)
    running.ask("FLUSHALL")


async def examine(url: str, *services: str) -> tuple[dict[str, str], int]:
    """Give the severity of each finding, and the exit code, as machines read them."""
    text, code = await report(partial(Store, url), services=services or tuple(SERVICES), as_json=True)
    told = json.loads(text)
    assert told["exit_code"] == code
    return {finding["id"]: finding["severity"] for finding in told["findings"]}, code


def as_user(server: RedisServer, user: str) -> str:
    return f"unix://{user}:{PASSWORD}@{server.socket}"


async def test_server_as_it_should_be_has_nothing_to_mend(server: RedisServer) -> None:
    found, code = await examine(f"unix://{server.socket}")
    assert set(found.values()) == {"ok"}
    assert code == 0


@pytest.mark.parametrize(
    ("setting", "value", "finding", "severity"),
    [
        ("maxmemory-policy", "allkeys-lru", "eviction_policy", "error"),
        ("maxmemory-policy", "noeviction", "eviction_policy", "warning"),
        ("maxmemory-policy", "volatile-ttl", "eviction_policy", "ok"),
        ("maxmemory", "0", "memory_bound", "warning"),
        ("maxmemory", "1", "memory_bound", "warning"),
        ("appendonly", "no", "persistence", "warning"),
        ("appendfsync", "no", "persistence", "warning"),
        ("stop-writes-on-bgsave-error", "no", "stop_writes_on_bgsave_error", "warning"),
        ("min-replicas-to-write", "1", "replicas", "error"),
    ],
)
async def test_setting_of_redis_is_found_as_grave_as_it_is(
    server: RedisServer, setting: str, value: str, finding: str, severity: str
) -> None:
    server.ask("CONFIG", "SET", setting, value)
    found, code = await examine(f"unix://{server.socket}")
    assert found[finding] == severity
    assert code == {"ok": 0, "warning": 1, "error": 2}[severity]


async def test_full_server_that_makes_no_room_is_an_error(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    found, code = await examine(f"unix://{server.socket}")
    assert (found["memory_bound"], code) == ("error", 2)


@pytest.mark.parametrize("kind", ["valkey9", "redis7", "redis6"])
async def test_line_for_an_append_only_file_loses_nothing_at_the_next_restart(kind: str) -> None:
    with RedisServer(kind, config={"save": "3600 1"}) as server:
        server.ask("SET", "login:{x}", "y")
        text, _ = await report(partial(Store, f"unix://{server.socket}"), services=["mailer"], as_json=False)
        [line] = re.findall(r"mend it: (CONFIG SET appendonly yes) first, then in redis.conf", text)
        server.ask(*line.split())
        wait_until(lambda: not int(server.ask("INFO", "persistence")["aof_rewrite_in_progress"]))
        server.stop()
        server._config["appendonly"] = "yes"
        server.start()
        wait_until(lambda: server.ask("EXISTS", "login:{x}"))


async def test_replica_is_an_error(server: RedisServer) -> None:
    server.ask("REPLICAOF", "127.0.0.1", "1")
    found, code = await examine(f"unix://{server.socket}")
    assert (found["role"], code) == ("error", 2)


async def test_key_of_another_tenant_is_warned_of(server: RedisServer) -> None:
    server.ask("SET", "celery-task:1", "x")
    found, _ = await examine(f"unix://{server.socket}")
    assert found["strangers"] == "warning"


async def test_number_of_a_database_and_a_missing_password_are_warned_of(server: RedisServer) -> None:
    found, code = await examine(f"redis://127.0.0.1:{server.port}/1")
    assert (found["database_number"], found["authentication"], code) == ("warning", "warning", 1)


async def test_service_that_may_not_ask_for_settings_hears_that_they_are_unknown(server: RedisServer) -> None:
    found, code = await examine(as_user(server, "auth-api"), "auth-api")
    assert found["stop_writes_on_bgsave_error"] == "unknown"
    assert found["permissions"] == "ok"
    assert code == 0


async def test_password_that_comes_from_a_file_is_not_taken_for_none(tmp_path: Path) -> None:
    with RedisServer("redis7", config={**GOOD, "requirepass": PASSWORD}) as server:
        url, file = f"unix://:{PASSWORD}@{server.socket}", tmp_path / "redis_url"
        file.write_text(url)
        text, _ = await report(
            partial(Store, url, ConnectionOptions(url_file=file)), services=["auth-api"], as_json=False
        )
    assert "ok       authentication: user default, with a password" in text


async def test_doctors_own_user_is_told_what_each_service_lacks(server: RedisServer) -> None:
    found, _ = await examine(as_user(server, DOCTOR_USER))
    assert found["permissions"] == "ok"
    server.ask("ACL", "SETUSER", "mailer", "-blmove")
    try:
        text, code = await report(partial(Store, as_user(server, DOCTOR_USER)), services=tuple(SERVICES), as_json=False)
    finally:
        server.ask("ACL", "SETUSER", "mailer", "+blmove")
    assert code == 2
    assert "mend it: ACL SETUSER mailer +blmove" in text


RIGHTS = SERVICES["mailer"].rights()
KEYS = [right for right in RIGHTS if right.startswith("~")]
# What a user may do, the user, and what it lacks of what its doctor needs.
WANTING = [
    ("shared", "~* &* +@all -blmove -hincrby -acl", "+blmove +hincrby"),
    ("shared", "~* &* +@all -publish -acl", "+publish"),
    ("shared", "~* &* +@all -evalsha -acl", "+evalsha"),
    ("shared", "~* &* +@all -info -time -acl", "+info +time"),
    ("shared", "~* &* +@all -eval -acl", "+eval"),
    ("shared", "~* &* +@all -client|setname -acl", "+client|setname"),  # a connection begins with it
    ("shared", "~* &* +@all -ping -acl", "+ping"),
    ("shared", "~* resetchannels +@all -acl", "&keys-updated &unlocked &mail-result:*"),
    ("shared", "~* resetchannels &unlocked &mail-result:* +@all -acl -subscribe", "+subscribe &keys-updated"),
    ("mailer", " ".join(right for right in RIGHTS if right != "~suppressed:{*}"), "~suppressed:{*}"),
    ("mailer", " ".join(right for right in RIGHTS if right != "~lock:{*}"), "~lock:{*}"),  # which is asked about first
    ("mailer", " ".join(right for right in RIGHTS if right not in ("+get", "~lock:{*}")), "+get ~lock:{*}"),
    (
        "mailer",
        " ".join(right for right in RIGHTS if right[0] != "~"),
        " ".join(f"~{glob}" for glob in SERVICES["mailer"].keys),
    ),
]


@pytest.mark.parametrize("kind", ["redis7", "valkey9"])
@pytest.mark.parametrize(("user", "rules", "lacking"), WANTING)
async def test_line_that_is_told_gives_a_user_just_what_it_lacks(
    kind: str, user: str, rules: str, lacking: str
) -> None:
    services = [user] if user in SERVICES else list(SERVICES)
    with RedisServer(kind, port=free_port(), config=GOOD | ROOT, login=("root", PASSWORD)) as server:
        server.ask("ACL", "SETUSER", user, "on", f">{PASSWORD}", "resetchannels", *rules.split())
        url = f"redis://{user}:{PASSWORD}@127.0.0.1:{server.port}"  # where connecting fails otherwise than by a socket
        open_store = partial(Store, url, ConnectionOptions(client_name="auth-api"))
        text, code = await report(open_store, services=services, as_json=False)
        [line] = [line.partition("mend it: ")[2] for line in text.splitlines() if "ACL SETUSER" in line]
        assert {*line.split()} == {"ACL", "SETUSER", user, *lacking.split()}
        assert code == 2
        assert "ok       reachable" in text
        server.ask(*line.split())
        text, _ = await report(open_store, services=services, as_json=False)
    assert "ok       permissions" in text


@pytest.mark.parametrize("kind", ["redis7", "valkey9"])
@pytest.mark.parametrize("service", SERVICES)
async def test_each_right_that_a_service_lacks_is_the_one_that_it_is_given(kind: str, service: str) -> None:
    with RedisServer(kind, config=GOOD) as server:
        for right in SERVICES[service].rights():
            rights = [one for one in SERVICES[service].rights() if one != right]
            server.ask("ACL", "SETUSER", service, "reset", "on", f">{PASSWORD}", "resetchannels", *rights)
            server.ask("ACL", "SETUSER", DOCTOR_USER, "reset", "on", f">{PASSWORD}", "~*", "+@all")
            for user in (service, DOCTOR_USER):
                text, _ = await report(partial(Store, as_user(server, user)), services=[service], as_json=False)
                assert f"mend it: ACL SETUSER {service} {right}\n" in f"{text}\n", (user, right, text)


@pytest.mark.parametrize("right", ["info", "time", "eval", "scan", "acl|dryrun", "config|get"])
async def test_right_that_doctors_own_user_lacks_is_told_with_the_line_that_gives_it(
    server: RedisServer, right: str
) -> None:
    server.ask("ACL", "SETUSER", DOCTOR_USER, f"-{right}")
    try:
        text, code = await report(partial(Store, as_user(server, DOCTOR_USER)), services=[*SERVICES], as_json=False)
    finally:
        server.ask("ACL", "SETUSER", DOCTOR_USER, f"+{right}")
    assert f"doctor lacks +{right}" in text
    assert f"mend it: ACL SETUSER doctor +{right}" in text
    assert "ok       reachable" in text
    assert code == 2


async def test_user_of_redis_6_that_may_not_ask_for_the_time_is_told_so_where_rights_are_told() -> None:
    with RedisServer("redis6", config=GOOD) as server:
        server.ask("ACL", "SETUSER", "mailer", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-time")
        text, code = await report(partial(Store, as_user(server, "mailer")), services=["mailer"], as_json=False)
    assert "mend it: ACL SETUSER mailer +time" in text
    assert "ok       reachable" in text
    assert code == 2


async def test_wrong_password_is_told_as_that_of_a_server_that_answers(server: RedisServer) -> None:
    found, code = await examine(f"unix://mailer:wrong@{server.socket}", "mailer")
    assert (found, code) == ({"reachable": "ok", "authentication": "error"}, 2)


@pytest.mark.parametrize("user", ["auth-api", DOCTOR_USER])
async def test_examination_leaves_no_trace_in_the_acl_log(server: RedisServer, user: str) -> None:
    server.ask("ACL", "LOG", "RESET")
    await examine(as_user(server, user), *(SERVICES if user == DOCTOR_USER else (user,)))
    assert server.ask("ACL", "LOG") == []


async def test_server_without_config_is_not_held_to_what_it_hides() -> None:
    with RedisServer("redis7", config={**GOOD, "rename-command CONFIG": '""'}) as server:
        found, code = await examine(f"unix://{server.socket}")
    assert (found["stop_writes_on_bgsave_error"], found["persistence"], code) == ("unknown", "ok", 0)


async def test_masters_of_a_cluster_are_examined_one_by_one_and_told_of_together() -> None:
    with deployment("valkey9-cluster") as cluster:
        text, code = await report(partial(Store, cluster.url, cluster.options), services=tuple(SERVICES), as_json=True)
    found = {finding["id"]: finding for finding in json.loads(text)["findings"]}
    assert code == 1
    assert {found[name]["severity"] for name in ("cluster_state", "permissions", "strangers")} == {"ok"}
    assert len(found["cluster_state"]["where"].split(", ")) == 3
    assert "--cluster-slave" in found["replicas"]["mend"]  # its nodes refuse replicaof


async def test_node_of_a_cluster_that_is_named_as_one_server_is_told_as_that_beside_all_else() -> None:
    with deployment("valkey9-cluster") as cluster:
        found, code = await examine(cluster.masters()[0].url)
    assert (found["cluster_state"], found["reachable"], code) == ("error", "ok", 2)
    assert found["mail_is_served"] == "unknown"  # the queues that this node has not


@pytest.mark.redis
async def test_cluster_that_has_lost_a_master_is_told_by_the_others() -> None:
    with deployment("valkey9-cluster") as cluster:
        other, victim, _ = cluster.servers
        victim.kill()
        wait_until(lambda: b"cluster_state:fail" in other.ask("CLUSTER", "INFO"))
        text, code = await report(
            partial(Store, cluster.url, ConnectionOptions(timeout=1)), services=tuple(SERVICES), as_json=True
        )
    found = {finding["id"]: finding for finding in json.loads(text)["findings"]}
    assert code == 2
    assert f"127.0.0.1:{victim.port}" in found["reachable"]["found"]
    assert "10922 of 16384 slots" in found["cluster_state"]["found"] or "10923" in found["cluster_state"]["found"]


async def test_failed_snapshot_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with RedisServer("redis7", config={**GOOD, "appendonly": "no", "dir": str(folder)}) as server:
        folder.rmdir()
        server.ask("BGSAVE")
        wait_until(lambda: server.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
        found, code = await examine(f"unix://{server.socket}")
    assert (found["disk_writes"], code) == ("error", 2)


async def test_server_that_the_network_reaches_in_plain_text_is_warned_of() -> None:
    with RedisServer("redis7", port=free_port(), config={**GOOD, "bind": "0.0.0.0", "protected-mode": "no"}) as server:
        found, code = await examine(f"redis://0.0.0.0:{server.port}")
    assert (found["network"], found["transport"], code) == ("warning", "warning", 1)


async def test_folder_that_others_may_read_is_warned_of(server: RedisServer) -> None:
    server.directory.chmod(0o755)
    try:
        found, code = await examine(f"unix://{server.socket}")
    finally:
        server.directory.chmod(0o700)
    assert (found["files"], code) == ("warning", 1)


async def test_server_that_is_not_there_is_one_error() -> None:
    assert await examine("redis://127.0.0.1:1") == ({"reachable": "error"}, 2)


def test_every_finding_is_explained_on_the_operators_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
    assert [check.__name__ for check in CHECKS if f"`{check.__name__}`" not in page] == []


async def test_mail_that_no_mailer_takes_is_found_in_whatever_queue_it_is(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared_store.mail_checks.LOOK_AGAIN", 0.01)
    url, queue = f"unix://{server.socket}", MailQueue("mail-9")
    job = MailJob("job", "a@b.example", "en", "https://s.example", "https://l.example", "abc123", 4e9, 900)
    async with Store(url) as store:
        await store.run(queue.enqueue(job, bound=9))
        text, code = await report(partial(Store, url), services=["mailer"], as_json=False)
        assert "no mailer takes the mail in mail-9" in text
        assert code == 2
        await store.run(queue.register("dead", lease=-1))
        assert (await examine(url, "mailer"))[0]["mail_is_served"] == "error"
        await store.run(queue.register("alive", lease=60))
        assert (await examine(url, "mailer"))[0]["mail_is_served"] == "ok"
        assert (await examine(as_user(server, "mailer"), "mailer"))[0]["mail_is_served"] == "ok"
        assert (await examine(as_user(server, DOCTOR_USER)))[0]["mail_is_served"] == "unknown"

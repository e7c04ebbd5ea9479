"""Redis is there and says no: it can't write its snapshot, refuses passwords, or denies commands and keys."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.faults.broker import Broker, Service, broker, is_told
from tests.stack import until

from shared_store.acl import SERVICES
from shared_store.document_acl import users
from shared_store.testing.servers import RedisServer, free_port, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

OLD, NEW = "old-password", "new-password"
KEYS = "keys:{RS256}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Services that have a user each in a Redis 7."""
    folder = tmp_path_factory.mktemp("broker")
    everybody = folder / "users.acl"
    operator = f"user operator on >{OLD} ~* &* +@all"
    everybody.write_text("".join(f"{line}\n" for line in [*users("standalone", password=f">{OLD}"), operator]))
    config = {"aclfile": str(everybody), "appendonly": "yes"}
    server = RedisServer("redis7", port=free_port(), config=config, login=("operator", OLD))
    with broker(folder, server=server, users=dict.fromkeys(SERVICES, OLD)) as running:
        yield running


@pytest.fixture
def running(whole: Broker) -> Iterator[Broker]:
    yield whole
    assert whole.nobody_died()
    whole.until_ready()
    for service in whole.services:
        told = service.log.read_text()
        assert "Traceback" not in told
        assert OLD not in told
        assert NEW not in told


def breaks_its_snapshot(redis: RedisServer) -> Path:
    """Let the snapshot fail, which stops nothing yet."""
    redis.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no", "save", "3600 1000000")
    in_the_way = redis.directory / "dump.rdb"
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    (in_the_way / "x").touch()
    redis.ask("BGSAVE")
    wait_until(lambda: redis.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
    return in_the_way


@pytest.mark.fault(
    row="snapshot failure (`MISCONF`)",
    cause="BGSAVE fails with a mail in hand and the key set gone; then it works again",
    auth_api="503 with Retry-After 30, portier_store_errors_total counts, portier_store_up 0; keys.json goes on; the "
    "login in flight ends afterwards",
    mailer="not ready with the reason; the mail in hand is sent once and finished afterwards",
    key_rotator="not ready with the reason; tries again, and writes the same keys when it may",
)
def test_failed_snapshot_is_told_and_everything_goes_on_once_it_works_again(running: Broker) -> None:
    redis, kids = running.redis, running.kids()
    running.mailbox.delay, before = 5.0, running.mailbox.begun
    assert running.begin("hand@example.org").status_code == 200
    until(lambda: running.mailbox.begun > before)
    in_the_way = breaks_its_snapshot(redis)
    try:
        redis.ask("DEL", KEYS)
        redis.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
        redis.ask("PUBLISH", "keys-updated", KEYS)
        for api, service in enumerate(running.apis):
            told = running.begin("late@example.org", api=api)
            assert is_told(told)
            assert told.headers["retry-after"] == "30"
            assert service.metric("portier_store_errors_total", reason="unsaved") >= 1
            until(lambda service=service: service.metric("portier_store_up") == 0)  # type: ignore[misc]
        for service in running.services:
            until(lambda service=service: service.says("can't write its snapshot"))  # type: ignore[misc]
        until(lambda: any(rotator.lines("keys_not_looked_after") for rotator in running.rotators))
        running.mailbox.wait_for("hand@example.org")
        assert is_told(running.confirm("hand@example.org"))
        assert running.kids() == kids
        assert redis.ask("HLEN", "mail:{mail}:jobs") == 1
    finally:
        running.mailbox.delay = 0.0
        shutil.rmtree(in_the_way)
        redis.ask("BGSAVE")
    wait_until(lambda: redis.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "ok")
    running.until_ready()
    until(lambda: not redis.ask("HLEN", "mail:{mail}:jobs"))
    assert running.mailbox.count("hand@example.org") == 1
    assert running.confirm("hand@example.org", api=1).status_code == 200
    until(lambda: redis.ask("EXISTS", KEYS))
    until(lambda: running.kids(0) == running.kids(1) == kids)
    running.log_in("saved@example.org")
    redis.ask("CONFIG", "SET", "save", "")


@pytest.mark.fault(
    row="wrong password / ACL denies a command",
    cause="one of each service is started with a wrong password in redis_url's file, which is mended then",
    auth_api="stays up, not ready, says that redis_url's user or password is refused; ready without a restart",
    mailer="the same",
    key_rotator="the same",
)
def test_wrong_password_at_start_is_told_and_taken_anew_from_its_file(running: Broker, tmp_path: Path) -> None:
    started = []
    for like in running.one_of_each:
        file = tmp_path / like.module
        file.write_text(Path(like.environ["BROKER_REDIS_URL_FILE"]).read_text().replace(OLD, "wrong-password"))
        environ = {"BROKER_REDIS_URL_FILE": str(file), "BROKER_LISTEN_PORT": str(free_port())}
        started.append(Service(like.module, tmp_path / f"{like.module}.log", like.environ | environ))
    try:
        for service in started:
            service.start()
        for service in started:
            until(lambda service=service: service.says("refuses the user or password in redis_url"))  # type: ignore[misc]
            until(lambda service=service: service.lines("refuses the user or password in redis_url"))  # type: ignore[misc]
            assert service.process.poll() is None
            assert "wrong-password" not in service.log.read_text()
        for service in started:
            file = tmp_path / service.module
            file.write_text(file.read_text().replace("wrong-password", OLD))
        for service in started:
            until(service.is_ready)
            assert service.process.poll() is None
    finally:
        for service in started:
            service.end()


@pytest.mark.fault(
    row="wrong password / ACL denies a command",
    cause="each user's password changes and its connections are cut; a while later the services' files get the new one",
    auth_api="503 with Retry-After, not ready with the reason, keys.json goes on; goes on by itself",
    mailer="not ready with the reason; goes on by itself",
    key_rotator="not ready with the reason; goes on by itself",
)
def test_password_that_changes_while_services_run_is_told_until_they_have_the_new_one(running: Broker) -> None:
    ask, kids = running.redis.ask, running.kids()
    assert running.begin("between@example.org").status_code == 200
    running.mailbox.wait_for("between@example.org")
    for user in SERVICES:
        ask("ACL", "SETUSER", user, f">{NEW}", f"<{OLD}")
        ask("CLIENT", "KILL", "USER", user)
    try:
        for service in running.services:
            until(lambda service=service: service.says("refuses the user or password in redis_url"))  # type: ignore[misc]
        told = running.begin("refused@example.org")
        assert is_told(told)
        assert running.kids() == kids
    finally:
        for user in SERVICES:
            file = Path(running.apis[0].environ["BROKER_REDIS_URL_FILE"]).with_suffix(f".{user}")
            file.write_text(file.read_text().replace(OLD, NEW))
    running.until_ready()
    assert running.confirm("between@example.org", api=1).status_code == 200
    running.log_in("let-in@example.org")


def keys_but(service: str, pattern: str) -> list[str]:
    return ["resetkeys", *(f"~{key}" for key in SERVICES[service].keys if key != pattern)]


DENIALS: Mapping[str, tuple[str, list[str], str, str]] = {
    "auth-api: a key": ("auth-api", keys_but("auth-api", "login:{*}"), "~login:{*}", "save_login on login:{*}"),
    "auth-api: a command": ("auth-api", ["-evalsha"], "+evalsha", "hit_limit on limit:{*}"),
    "auth-api: a command in a script": ("auth-api", ["-lpush"], "+lpush", "enqueue_mail on mail:{*}:ready"),
    "mailer: a key": ("mailer", keys_but("mailer", "mail:{*}:ready"), "~mail:{*}:ready", "claim_mail on mail:{*}"),
    "mailer: a command": ("mailer", ["-blmove"], "+blmove", "BLMOVE on mail:{*}:ready mail:{*}:taken:*"),
    "mailer: a command in a script": ("mailer", ["-zadd"], "+zadd", "on mail:{*}:leases"),
    "key-rotator: a key": ("key-rotator", keys_but("key-rotator", "keys:{*}"), "~keys:{*}", "load_key_set on keys:{*}"),
    "key-rotator: a command": ("key-rotator", ["-evalsha"], "+evalsha", "load_key_set on keys:{*}"),
    "key-rotator: a command in a script": ("key-rotator", ["-hmget"], "+hmget", "load_key_set on keys:{*}"),
}  # fmt: skip


@pytest.mark.parametrize("name", DENIALS)
@pytest.mark.fault(
    row="wrong password / ACL denies a command",
    cause="a service's user loses a key pattern, a command, or a command that a script calls; and gets it back",
    auth_api="503 with Retry-After, not ready, names script and key pattern in the log and at /readyz, once",
    mailer="not ready, names command and key pattern in the log and at /readyz, once; sends afterwards",
    key_rotator="not ready, names script and key pattern in the log and at /readyz, once; goes on by itself",
)
def test_right_that_a_user_lacks_is_named_with_its_keys_until_it_has_it(running: Broker, name: str) -> None:
    user, lost, back, told = DENIALS[name]
    concerned = [service for service in running.services if service.module == user.replace("-", "_")]
    before = [len(service.lines("store_refused: ")) for service in concerned]
    running.redis.ask("ACL", "SETUSER", user, *lost)
    try:
        if user == "auth-api":
            for api in range(2):
                for _ in range(5):
                    assert is_told(running.begin("denied@example.org", api=api))
        running.redis.ask("PUBLISH", "keys-updated", KEYS)
        for service, said in zip(concerned, before, strict=True):
            until(lambda service=service: service.says(told))  # type: ignore[misc]
            until(lambda service=service: service.says("the Redis ACL denies"))  # type: ignore[misc]
            assert 1 <= len(service.lines("store_refused: ")) - said <= 8, "each kind of call once"
        others = [service for service in running.services if service not in concerned]
        assert all(service.is_ready() for service in others)
    finally:
        running.redis.ask("ACL", "SETUSER", user, back)
        running.redis.ask("ACL", "LOG", "RESET")
    running.log_in("allowed@example.org")
    running.until_ready()

"""What a server does when it can't, told in the store's words: caused for real on servers of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import exceptions as redis_errors

from shared_store import auth_codes, errors, fetch_cache, logins, rate_limits
from shared_store.commands import Call, command
from shared_store.connection import ConnectionOptions
from shared_store.dead_letters import DeadJob
from shared_store.errors import (
    LoginRefused,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUnreachable,
    translate,
)
from shared_store.locks import Locks
from shared_store.logins import CodeStatus, StoredLogin, new_session_id
from shared_store.mail_jobs import MailJob
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.notices import Notices
from shared_store.rate_limits import Counter
from shared_store.store import Store
from shared_store.testing.deployments import deployment
from shared_store.testing.servers import RedisServer, free_port, wait_until

KINDS = ["valkey9", "redis7", "redis6"]
LOGIN = StoredLogin("{}", "{}")
QUEUE = MailQueue()


@pytest.fixture(scope="module", params=KINDS)
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that the test may bring into any state by CONFIG and ACL."""
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture
async def own_store(own_server: RedisServer) -> AsyncIterator[Store]:
    own_server.ask("FLUSHALL")
    async with Store(own_server.url) as store:
        yield store


@contextlib.contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """Let a server have no memory left and evict nothing."""
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")


def in_operators_words(error: StoreError) -> bool:
    """Tell whether a message is free of where in which script a server failed."""
    return re.search(r"user_script|script: |[0-9a-f]{40}", str(error)) is None


def job(number: int) -> MailJob:
    return MailJob(f"job-{number}", "a@b.example", "en", "https://s.example", "https://l", "abc123", 4e9, 900)


async def test_full_server_refuses_what_would_add(own_server: RedisServer, own_store: Store) -> None:
    session = new_session_id()
    adding = (
        logins.save_for_code(session, LOGIN, code="a", browser_secret="b", ttl=900),
        QUEUE.enqueue(job(0), bound=10),
        rate_limits.hit([Counter("l", ("x",), 1, 60)]),
        fetch_cache.write("https://a", "document", fresh=60, stale=60),
        fetch_cache.write_failure("https://a", "failure", keep=60),
    )
    with full(own_server):
        for call in adding:
            with pytest.raises(StoreFull, match="maxmemory", check=in_operators_words):
                await own_store.run(call)
        with pytest.raises(StoreFull):
            await own_store.run_all(adding[0], adding[1])
    assert own_server.ask("DBSIZE") == 0


async def test_full_server_still_confirms_logins_and_counts_guesses(own_server: RedisServer, own_store: Store) -> None:
    sessions = [new_session_id() for _ in range(3)]
    for session in sessions:
        await own_store.run(logins.save_for_code(session, LOGIN, code="a", browser_secret="b", ttl=900))
    counter = Counter("l", ("x",), 1, 60)
    for _ in range(3):
        await own_store.run(rate_limits.hit([counter]))
    code = auth_codes.new_auth_code()
    token = auth_codes.new_access_token(code)
    with full(own_server):
        checks = [await own_store.run(logins.confirm_code(sessions[0], "x", guesses=3, operation=o)) for o in "123"]
        assert [check.status for check in checks] == [CodeStatus.WRONG, CodeStatus.WRONG, CodeStatus.ENDED]
        check = await own_store.run(logins.confirm_code(sessions[1], "a", guesses=3, operation="o"))
        assert check.status is CodeStatus.RIGHT
        assert await own_store.run(logins.cancel(sessions[2], browser_secret="b", operation="o")) == LOGIN
        await own_store.run(rate_limits.refund([counter.key]))
        await own_store.run(auth_codes.save(code, grant="g", claims="c", ttl=60))
        redeemed = await own_store.run(auth_codes.take(code, access_token=token, access_ttl=60, operation="o"))
        assert redeemed is not None
        assert await own_store.run(auth_codes.read_claims(token)) == "c"
        assert await own_store.run(auth_codes.take(code, access_token=token, access_ttl=60, operation="p")) is None
    [count] = await own_store.run(rate_limits.look([counter]))
    assert count.hits == 2


async def test_full_server_can_still_be_drained_of_mail(own_server: RedisServer, own_store: Store) -> None:
    for number in range(6):
        await own_store.run(QUEUE.enqueue(job(number), bound=10))
    await own_store.run(QUEUE.register("dying", lease=60))
    await own_store.run(QUEUE.claim("dying", room=2, known=[]))
    locks = Locks(own_store, Notices(own_store))
    with full(own_server):
        await own_store.run(QUEUE.renew("dying", lease=-1))
        await own_store.run(QUEUE.register("w", lease=60))
        assert await own_store.run(QUEUE.renew("w", lease=60))
        async with locks.holding("reaper", ttl=20) as lock:
            assert lock is not None
            await locks.extend(lock)
            assert await own_store.run(QUEUE.reap("dying")) == 2
        assert await QUEUE.wait_for_job(own_store, "w", block=0.01)
        claim = await own_store.run(QUEUE.claim("w", room=6, known=[]))
        assert claim is not None
        assert len(claim.jobs) == 6
        assert await own_store.run(QUEUE.finish("w", "job-0", Outcome.DELIVERED, tell="x"))
        assert await own_store.run(QUEUE.bury("w", DeadJob.of(job(1), "expired", 1.0), Outcome.FAILED))
        for number in (2, 3):
            assert await own_store.run(QUEUE.delay("w", job(number), seconds=-1 if number == 2 else 60))
        assert await own_store.run(QUEUE.promote()) == 1
        assert await own_store.run(QUEUE.retry_now("job-3"))
        assert await own_store.run(QUEUE.drop("job-3"))
        assert await own_store.run(QUEUE.give_back("w")) == 2
        assert (await QUEUE.depth(own_store)).ready == 3


async def test_failed_snapshot_is_told_with_advice(own_server: RedisServer, own_store: Store) -> None:
    own_server.ask("CONFIG", "SET", "save", "3600 1000000")
    blocked = own_server.directory / "dump.rdb"
    blocked.unlink(missing_ok=True)
    blocked.mkdir()
    (blocked / "x").touch()
    own_server.ask("SET", "x", "y")
    own_server.ask("BGSAVE")
    wait_until(lambda: own_server.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
    session = new_session_id()
    with pytest.raises(StoreUnavailable, match="snapshot"):
        await own_store.run(logins.save_for_code(session, LOGIN, code="a", browser_secret="b", ttl=900))
    with pytest.raises(StoreUnavailable, match="snapshot"):
        await own_store.run(Call((command("SET", "x", "z"),), lambda _: None))
    (blocked / "x").unlink()
    blocked.rmdir()
    own_server.ask("BGSAVE")
    wait_until(lambda: own_server.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "ok")
    await own_store.run(logins.save_for_code(session, LOGIN, code="a", browser_secret="b", ttl=900))
    own_server.ask("CONFIG", "SET", "save", "")


@pytest.mark.parametrize("kind", KINDS)
async def test_read_only_replica_is_told_and_left_when_another_is_master(kind: str) -> None:
    with RedisServer(kind) as server:
        async with Store(server.url) as store:
            call = rate_limits.hit([Counter("l", ("x",), 1, 60)])
            await store.run(call)
            server.ask("REPLICAOF", "127.0.0.1", free_port())
            server.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="read-only replica", check=in_operators_words):
                    await store.run(call)
            with pytest.raises(StoreUnavailable, match="read-only replica"):
                await QUEUE.wait_for_job(store, "w", block=0.05)
            assert int(server.ask("INFO", "clients")["connected_clients"]) == 1  # that which asks
            server.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
            with pytest.raises(StoreUnavailable, match="lost its master"):
                await store.run(rate_limits.look([Counter("l", ("x",), 1, 60)]))
            server.ask("REPLICAOF", "NO", "ONE")
            [count] = await store.run(call)
            assert count.hits == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_waited_for_as_the_master_became_a_replica_is_told_as_a_failover(kind: str) -> None:
    write = Call((command("SET", "x", "y"),), list, durable=True)
    with RedisServer(kind) as server:
        async with Store(server.url, ConnectionOptions(timeout=20, wait_replicas=1, wait_timeout=15)) as store:
            for waiting in (lambda: store.run(write), lambda: QUEUE.wait_for_job(store, "w", block=15)):
                task = asyncio.ensure_future(waiting())
                await asyncio.to_thread(wait_until, lambda: server.ask("INFO", "clients")["blocked_clients"] == 1)
                server.ask("REPLICAOF", "127.0.0.1", free_port())
                with pytest.raises(StoreUnavailable, match="failover", check=in_operators_words):
                    await task
                server.ask("REPLICAOF", "NO", "ONE")
            server.ask("REPLICAOF", "127.0.0.1", free_port())
            with pytest.raises(StoreUnavailable, match="failover", check=in_operators_words):
                await store.run(Call((command("WAIT", 1, 1),), list))


@pytest.mark.parametrize("kind", KINDS)
async def test_too_few_replicas_are_told(kind: str) -> None:
    with RedisServer(kind, config={"min-replicas-to-write": "1"}) as server:
        async with Store(server.url) as store:
            with pytest.raises(StoreUnavailable, match="min-replicas-to-write"):
                await store.run(Call((command("SET", "x", "y"),), list))


@pytest.mark.parametrize("kind", KINDS)
async def test_passwords_and_rights_are_told_as_an_operators_business(kind: str) -> None:
    acl = {"requirepass": "right", "user limited": "on >right +ping +evalsha +eval ~login:*"}
    with RedisServer(kind, config=acl) as server:
        at = str(server.socket)

        async def told(credentials: str, call: Call[object]) -> str:
            async with Store(f"unix://{credentials}{at}") as store:
                with pytest.raises(StoreRefused) as refused:
                    await store.run(call)
                return str(refused.value)

        hit = rate_limits.hit([Counter("l", ("x",), 1, 60)])
        save = logins.save_for_provider(new_session_id(), LOGIN, ttl=60)
        assert "asks for a password" in await told("", hit)
        for wrong in (":wrong@", "nobody:right@", "default:@"):
            assert "refuses the user or password" in await told(wrong, hit)
        for denied in (hit, save):
            assert "ACL denies" in await told("limited:right@", denied)
        assert "hset" in (await told("limited:right@", Call((command("HSET", "login:x", "a", "b"),), list))).lower()
        async with Store(f"unix://limited:right@{at}") as store:
            await store.ping()
        async with Store(f"unix://:right@{at}") as store:
            await store.run(hit)


async def test_password_where_redis_has_none_is_told(own_server: RedisServer) -> None:
    async with Store(f"unix://:needless@{own_server.socket}") as store:
        with pytest.raises(StoreRefused, match="no password"):
            await store.ping()


@pytest.mark.parametrize("kind", KINDS)
async def test_command_that_was_renamed_away_is_told(kind: str) -> None:
    with RedisServer(kind, config={"rename-command EVALSHA": '""'}) as server:
        async with Store(server.url) as store:
            with pytest.raises(StoreRefused, match="does not know"):
                await store.run(rate_limits.hit([Counter("l", ("x",), 1, 60)]))


async def test_database_that_the_server_does_not_have_is_told(own_server: RedisServer) -> None:
    async with Store(f"{own_server.url}?db=99") as store:
        with pytest.raises(StoreRefused, match="no database of the number"):
            await store.ping()


@pytest.mark.parametrize("kind", KINDS)
async def test_redis_where_sentinels_were_named_is_told(kind: str) -> None:
    with RedisServer(kind, port=free_port()) as server:
        async with Store(f"redis+sentinel://127.0.0.1:{server.port}/main") as store:
            with pytest.raises(StoreRefused, match="should name Sentinels"):
                await store.ping()


async def test_sentinels_that_are_all_away_are_told_as_that_and_not_as_a_failover() -> None:
    async with Store("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main") as store:
        with pytest.raises(StoreUnreachable, match="none of the Sentinels"):
            await store.ping()


async def test_node_of_a_cluster_that_was_named_as_one_server_is_told() -> None:
    with deployment("valkey9-cluster") as cluster:
        hits = [rate_limits.hit([Counter("l", (str(number),), 1, 60)]) for number in range(50)]
        async with Store(cluster.masters()[0].url) as store:
            with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
                await asyncio.gather(*map(store.run, hits))


@pytest.mark.parametrize("kind", KINDS)
async def test_server_without_a_connection_left_is_told(kind: str) -> None:
    with RedisServer(kind, config={"maxclients": "1"}) as server:
        async with Store(server.url, ConnectionOptions(timeout=1)) as first:
            await first.ping()
            async with Store(server.url, ConnectionOptions(timeout=1)) as second:
                with pytest.raises(StoreUnavailable):
                    await second.ping()


@pytest.mark.parametrize("kind", KINDS)
async def test_server_that_runs_a_script_for_too_long_is_told(kind: str) -> None:
    with RedisServer(kind, config={"lua-time-limit": "10"}) as server:
        async with Store(server.url, ConnectionOptions(timeout=10)) as store, Store(server.url) as second:
            await second.ping()
            endless = Call((command("EVAL", "while true do end", 0),), list)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(_failure(store, endless))
                told = ""
                while "busy" not in told:
                    with contextlib.suppress(StoreError):
                        await second.ping()
                        continue
                    told = str(await _failure(second, Call((command("GET", "x"),), list)))
                server.ask("SCRIPT", "KILL")
            assert isinstance(running.result(), StoreError)
            await second.ping()


async def _failure(store: Store, call: Call[object]) -> StoreError | None:
    try:
        await store.run(call)
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize("kind", ["valkey9", "redis7"])  # Redis 6.2 answers nobody while it loads as little as this
async def test_server_that_loads_its_data_is_told_and_used_when_it_has(kind: str) -> None:
    config = {"key-load-delay": "20000", "loading-process-events-interval-bytes": "1024"}
    with RedisServer(kind, config=config) as server:
        server.ask("CONFIG", "SET", "key-load-delay", "0")
        for number in range(1000):
            # Nothing that compresses: the server answers between so and so many bytes of its file.
            server.ask("SET", f"key:{number}", secrets.token_urlsafe(100))
        server.ask("SAVE")
        server.stop()
        server.start()
        async with Store(server.url, ConnectionOptions(timeout=20)) as store:
            with pytest.raises(StoreUnavailable, match="loading"):
                await store.run(rate_limits.hit([Counter("l", ("x",), 1, 60)]))
            server.ask("CONFIG", "SET", "key-load-delay", "0")
            wait_until(lambda: server.ask("INFO", "persistence")["loading"] == 0)
            [count] = await store.run(rate_limits.hit([Counter("l", ("x",), 1, 60)]))
            assert count.hits == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis_errors.ResponseError("ERR Error running script: @user_script:1: -OOM command not allowed"), StoreFull),
        (redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), StoreFull),
        (redis_errors.ClusterDownError("The cluster is down"), StoreUnavailable),
        (redis_errors.TryAgainError("Multiple keys request during rehashing of slot"), StoreUnavailable),
        (redis_errors.MasterDownError("Link with MASTER is down"), StoreUnavailable),
        (redis_errors.MaxConnectionsError("Too many connections"), StoreUnavailable),
        (redis_errors.RedisClusterException("cannot be connected"), StoreUnreachable),
        (redis_errors.SlotNotCoveredError("slot"), StoreUnavailable),
        (TimeoutError(), StoreUnreachable),
        (ConnectionResetError("reset"), StoreUnreachable),
        (redis_errors.AuthenticationError("invalid username-password pair"), LoginRefused),
        (redis_errors.ResponseError("DENIED Redis is running in protected mode because protected mode"), LoginRefused),
        (redis_errors.ResponseError("ERR what"), StoreError),
        (ValueError("x" * 1000), StoreError),
        (ValueError(), StoreError),
    ],
)
def test_every_error_becomes_one_of_the_store_with_a_short_message(error: Exception, kind: type[StoreError]) -> None:
    told = translate(error)
    assert type(told) is kind
    assert 0 < len(str(told)) < 400


def test_reason_behind_a_cluster_error_is_the_one_that_is_told() -> None:
    error = redis_errors.RedisClusterException("Redis Cluster cannot be connected")
    error.__cause__ = redis_errors.AuthenticationError("invalid username-password pair or user is disabled.")
    assert isinstance(translate(error), StoreRefused)


def test_every_error_is_one_of_the_hierarchy() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    assert all(issubclass(kind, StoreError) for kind in kinds)
    assert all(kind.retry_after > 0 for kind in kinds if issubclass(kind, StoreUnavailable))

"""What a live server tells about itself, asked within bounds and without a trace in its ACL log. Judged elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from redis import exceptions as redis_errors
from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from shared_store.acl import DOCTOR_USER
from shared_store.commands import Reply
from shared_store.connection import close_client, open_client
from shared_store.errors import StoreError, StoreRefused, StoreUnreachable, translate
from shared_store.keyspace import is_rust_brokers, kind_of
from shared_store.rights import Ask, MissingRights, may, missing_rights
from shared_store.store import Store
from shared_store.store_url import StoreUrl

SCANNED = 2000  # keys looked at, at most
SCAN_AT_ONCE = 200
SETTINGS = (
    "save", "appendfsync", "stop-writes-on-bgsave-error", "min-replicas-to-write", "bind", "protected-mode", "dir",
)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Strangers:
    """Keys that are not ours, among those looked at: what their names begin with, and whether a Rust broker wrote."""

    looked_at: int
    prefixes: tuple[str, ...]
    rust_broker: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What one server told. None, or a name that is missing, is what it would not tell."""

    url: StoreUrl
    info: dict[str, Any] = field(repr=False)
    where: str = ""
    clock_ahead: float | None = None
    settings: dict[str, str] = field(default_factory=dict)
    missing_rights: MissingRights | None = None
    may_do_anything: bool | None = None
    strangers: Strangers | None = None
    cluster: dict[str, str] | None = None
    open_to_anyone: bool | None = None


async def gather(store: Store, services: Sequence[str], *, is_careful: bool) -> tuple[list[Facts], list[str]]:
    """Ask the server, or each master of a Cluster; gives also the names of those that do not answer.

    Careful is who asks again and again: a server that can't tell whether it would refuse a question (before Redis 7)
    is not asked, since each refusal is a line in its ACL log; nor is a login without a password tried, which takes a
    connection more than the service may have.

    Raises:
        StoreError: none can be reached, or lets us in.
    """
    client = store.client
    is_open = None if is_careful else await _is_open(store)
    try:
        if not isinstance(client, RedisCluster):
            async with store.turn():
                facts = await _ask_all(client.execute_command, store.url, services, is_careful)
            return [replace(facts, open_to_anyone=is_open)], []
        await client.initialize()
        found, silent = [], []
        for node in client.get_primaries():

            async def ask(*words: str | int, node: Any = node) -> Reply:
                return await client.execute_command(*words, target_nodes=node)

            try:
                facts = await _ask_all(ask, store.url, services, is_careful)
            except (redis_errors.ConnectionError, redis_errors.TimeoutError):
                silent.append(node.name)
            else:
                found.append(replace(facts, where=node.name, open_to_anyone=is_open))
    except StoreError:
        raise
    except Exception as error:
        raise store.told(error) from error
    if not found:
        raise StoreUnreachable("no master of the Redis Cluster answers")
    return found, silent


async def _ask_all(ask: Ask, url: StoreUrl, services: Sequence[str], is_careful: bool) -> Facts:
    refused: list[str] = []  # rights that we lack ourselves, found by trying

    async def told(right: str, asking: Awaitable[T], otherwise: T) -> T:
        try:
            return await asking
        except redis_errors.NoPermissionError as error:
            if f"'{right[1:]}'" not in str(error):  # but what a connection begins with
                raise
            refused.append(right)
            return otherwise

    info: dict[str, Any] = await told("+info", ask("INFO"), {})
    ahead = await told("+time", _clock_ahead(ask), None)
    questions = ("config", "get", "dir"), ("scan", "0"), ("cluster", "info"), ("flushall",)
    unknown: list[bool | None] = [None] * len(questions)
    *may_ask, anything = await told("+eval", may(ask, *questions), unknown)
    config, scan, cluster = (not is_careful if answer is None else answer for answer in may_ask)
    missing = None if "+eval" in refused else await missing_rights(ask, url, services)
    if missing is None and refused:
        missing = {(DOCTOR_USER if url.user == DOCTOR_USER else name, url.user): tuple(refused) for name in services}
    return Facts(
        url=url,
        info=info,
        clock_ahead=ahead,
        settings=await _settings(ask) if config else {},
        missing_rights=missing,
        may_do_anything=anything,
        strangers=await _strangers(ask) if scan else None,
        cluster=await _cluster(ask) if info.get("cluster_enabled") and cluster else None,
    )


async def _clock_ahead(ask: Ask) -> float | None:
    began = time.time()
    seconds, microseconds = await ask("TIME")
    return int(seconds) + int(microseconds) / 1e6 - (began + time.time()) / 2


async def _settings(ask: Ask) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(_RefusedError):
        for name in SETTINGS:
            flat = await _try(ask, "CONFIG", "GET", name)
            found |= {_text(key): _text(value) for key, value in zip(flat[::2], flat[1::2], strict=True)}
    return found


async def _cluster(ask: Ask) -> dict[str, str] | None:
    with contextlib.suppress(_RefusedError):
        told = await _try(ask, "CLUSTER", "INFO")
        if isinstance(told, dict):  # redis-py reads some replies for us
            return {_text(name): _text(value) for name, value in told.items()}
        return dict(line.split(":", 1) for line in _text(told).splitlines() if ":" in line)
    return None


async def _strangers(ask: Ask) -> Strangers | None:
    cursor, looked_at, rust_broker = 0, 0, False
    prefixes: set[str] = set()
    with contextlib.suppress(_RefusedError):
        while True:
            cursor, keys = await _try(ask, "SCAN", cursor, "COUNT", SCAN_AT_ONCE)
            looked_at += len(keys)
            for key in keys:
                if is_rust_brokers(key):
                    rust_broker = True
                elif kind_of(key) is None:
                    prefixes.add(_text(key).partition(":")[0][:20])
            if isinstance(cursor, dict):  # redis-py's way with a Cluster: by node, and we ask one
                [cursor] = cursor.values()
            cursor = int(cursor)
            if not cursor or looked_at >= SCANNED:
                return Strangers(looked_at, tuple(sorted(prefixes)), rust_broker)
    return None


class _RefusedError(Exception):
    """The server does not know a command, or does not allow it to us."""


async def _try(ask: Ask, *words: str | int) -> Reply:
    try:
        return await ask(*words)
    except ResponseError as error:
        raise _RefusedError from error


async def _is_open(store: Store) -> bool | None:
    """Tell whether the server lets in who gives no password."""
    url = replace(store.url, username=None, password=None)
    client = open_client(url, replace(store.options, client_name=None, url_file=None), retries=0)
    try:
        if isinstance(client, RedisCluster):
            await client.initialize()
        else:
            await client.ping()
    except Exception as error:  # noqa: BLE001  whatever it is: only a refusal tells something
        return False if isinstance(translate(error), StoreRefused) else None
    finally:
        await close_client(client)
    return True


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

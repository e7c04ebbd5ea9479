"""redis_url: every form that is read, hostile ones that are refused, and no credential in anything that is shown."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_store import rate_limits
from shared_store.connection import ConnectionOptions
from shared_store.errors import StoreUnavailable
from shared_store.rate_limits import Counter
from shared_store.store import Store
from shared_store.store_url import StoreUrl, StoreUrlError
from shared_store.testing.deployments import SLOTS, cluster
from shared_store.testing.servers import RedisServer, free_port

SECRET = "s3cr3t-Pa55"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("localhost", "redis://localhost:6379"),
        ("redis_1:7000", "redis://redis_1:7000"),
        ("http://redis:7000", "redis://redis:7000"),
        ("redis://redis:7000/3", "redis://redis:7000"),
        ("REDISS://user:p@[::1]:7000", "rediss://[::1]:7000"),
        ("rediss://:p@example.org?db=3", "rediss://example.org:6379"),
        ("unix:///run/redis%20x/s?db=2", "unix:///run/redis x/s"),
        ("unix://user:p@/run/s", "unix:///run/s"),
        ("redis+sentinel://a,b:1,[::2]/main/4", "redis+sentinel://a:26379,b:1,[::2]:26379/main"),
        ("rediss+sentinel://u:p@a/main?sentinel_password=x", "rediss+sentinel://a:26379/main"),
        ("rediss://a?ssl_cert_reqs=required&protocol=3", "rediss://a:6379"),
        ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2"),
        ("rediss+cluster://u:p@a", "rediss+cluster://a:6379"),
    ],
)
def test_every_form_is_read(text: str, shown: str) -> None:
    assert str(StoreUrl.parse(text)) == shown


def test_credentials_database_and_names_are_read() -> None:
    url = StoreUrl.parse("rediss+sentinel://us%40er:p%2F%3A%23@a/main/4?sentinel_username=su&sentinel_password=s%26p")
    assert (url.username, url.password, url.database, url.master_name) == ("us@er", "p/:#", 4, "main")
    assert (url.sentinel_username, url.sentinel_password, url.tls) == ("su", "s&p", True)
    assert StoreUrl.parse("redis://:only@h").username is None
    plus = StoreUrl.parse("redis+sentinel://u:a+b@h/main?sentinel_password=c+d%2Be")
    assert (plus.password, plus.sentinel_password) == ("a+b", "c+d+e")
    assert StoreUrl.parse("unix:///s?db=2").database == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "redis://",
        "redis://:@",
        "ftp://host",
        "redis+unix://host",
        "redis++sentinel://host/main",
        "://host",
        "redis://host:0",
        "redis://host:65536",
        "redis://host:-1",
        "redis://host:99999999999",
        "redis://host:port",
        "redis://host:١٢",
        "redis://a,b",
        "redis://host/x",
        "redis://host/1/2",
        "redis://host/-1",
        "redis://host?db=x",
        "redis://ho st",
        "redis://ho\x00st",
        "redis://host%0a",
        "redis://höst",
        "redis://[::1",
        "redis://::1",
        "redis://[zz]:1",
        "redis://user@host",
        "redis+sentinel://a",
        "redis+sentinel://a/main/x",
        "redis+cluster://a/1",
        "redis+cluster://a,,b",
        "unix://",
        "unix:///",
        "unix://run/redis.sock",
        "unix:///s?db=x",
        "redis://host?remap=a/b",
        "redis://host?sentinel_password=x",
        "redis+sentinel://a/main?sentinel_pasword=x",
        "redis+sentinel://a/main?sentinel_password=x&y",
        "redis+sentinel://a/main?remap=b/c",
        "redis+cluster://a?sentinel_username=x",
        "redis://user:pass/word@host",
        "redis://user:pass#word@host",
    ],
)
def test_what_is_no_redis_url_is_refused(text: str) -> None:
    with pytest.raises(StoreUrlError, match="redis_url"):
        StoreUrl.parse(text)


@given(st.text(max_size=80) | st.from_regex(r"(redis|rediss|unix|redis\+cluster)://[\x00-\x7f]{0,60}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        url = StoreUrl.parse(text)
    except StoreUrlError:
        return
    assert url.socket_path or url.nodes
    assert all(0 < port < 65536 for _, port in url.nodes)


@given(
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http", "ftp", "redis+x"]),
    st.text("abc@:/?#[]%,\\ ", max_size=6),
    st.text("ab:@/?#[]%,\u2100\uff0f", max_size=8),
    st.sampled_from(["host", "host:1", "[::1]", "a,b", "", "/s"]),
)
def test_password_is_in_nothing_that_is_shown(scheme: str, before: str, after: str, rest: str) -> None:
    text = f"{scheme}://user:{before}{SECRET}{after}@{rest}/main"
    told: StoreUrl | StoreUrlError
    try:
        told = StoreUrl.parse(text)
    except StoreUrlError as error:
        told = error
    if not set(before + after) & set("@/?#"):  # else it is no password but a part of the host or of the path
        assert SECRET not in f"{told} {told!r}"


@pytest.mark.parametrize(
    "text", [f"redis://:[{SECRET}]@host", f"redis://:{SECRET}\u2100@host", f"redis://u:[{SECRET}@h"]
)
def test_password_that_the_url_parser_complains_of_is_not_told(text: str) -> None:
    with pytest.raises(StoreUrlError) as told:
        StoreUrl.parse(text)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__
    assert SECRET not in str(told.value)


async def test_password_is_in_no_error_of_a_connection() -> None:
    port = free_port()
    async with Store(f"redis://user:{SECRET}@127.0.0.1:{port}", ConnectionOptions(timeout=0.2)) as store:
        with pytest.raises(StoreUnavailable, match="reached") as told:
            await store.ping()
        chain: BaseException | None = told.value
        while chain is not None:
            assert SECRET not in str(chain) + repr(chain)
            chain = chain.__cause__ or chain.__context__
        assert SECRET not in repr(store) + repr(store.options) + repr(store.url)


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
async def test_nothing_there_is_told_as_unavailable_for_every_form(scheme: str) -> None:
    path = "/main" if "sentinel" in scheme else ""
    url = f"{scheme}://127.0.0.1:{free_port()},127.0.0.1:{free_port()}{path}" if "+" in scheme else "unix:///nowhere/s"
    async with Store(url, ConnectionOptions(timeout=0.2)) as store:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.ping()
        with pytest.raises(StoreUnavailable):
            await store.take("BLMOVE", "{x}a", "{x}b", "RIGHT", "LEFT", "0.1", block=0.1)


async def test_name_that_cannot_be_resolved_is_told_as_unavailable() -> None:
    async with Store("redis://does-not-exist.invalid", ConnectionOptions(timeout=0.5)) as store:
        with pytest.raises(StoreUnavailable):
            await store.ping()


def test_addresses_that_a_cluster_tells_are_reached_where_remap_says() -> None:
    url = StoreUrl.parse("redis+cluster://h?remap=10.0.0.1:6379/nat.example:7001&remap=inner/127.0.0.1")
    assert url.reached_at(("10.0.0.1", 6379)) == ("nat.example", 7001)
    assert url.reached_at(("10.0.0.1", 6380)) == ("10.0.0.1", 6380)
    assert url.reached_at(("inner", 7000)) == ("127.0.0.1", 7000)
    for wrong in ("x", "a/b/c", "a:0/b", "/b", "a/"):
        with pytest.raises(StoreUrlError, match="remap"):
            StoreUrl.parse(f"redis+cluster://h?remap={wrong}")


@pytest.mark.parametrize("rule", ["inside.invalid/127.0.0.1", "each"])
async def test_cluster_whose_nodes_tell_addresses_that_nobody_reaches_is_used_by_remap(rule: str) -> None:
    """As behind NAT: each answer of a node, of where a slot has moved as well, names what is known inside alone."""
    inside = {"cluster-announce-hostname": "inside.invalid", "cluster-preferred-endpoint-type": "hostname"}
    with contextlib.ExitStack() as stack:
        nodes = cluster("valkey9", stack, config=inside)
        ports = [server.port for server in nodes.servers]
        rules = [f"inside.invalid:{port}/127.0.0.1:{port}" for port in ports] if rule == "each" else [rule]
        counters = [Counter("l", (str(number),), 5, 600) for number in range(30)]
        async with Store(nodes.url, ConnectionOptions(timeout=1)) as lost:
            with pytest.raises(StoreUnavailable):
                await lost.run(rate_limits.hit(counters))
        async with Store(f"{nodes.url}?{'&'.join(f'remap={one}' for one in rules)}") as store:
            await store.run(rate_limits.hit(counters))
            source, target = nodes.servers[:2]
            slot = next(slot for slot in range(SLOTS) if source.ask("CLUSTER", "COUNTKEYSINSLOT", slot))
            mine, theirs = (server.ask("CLUSTER", "MYID") for server in (source, target))
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", mine)
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
            [key] = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1)
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            for server in (target, source):
                server.ask("CLUSTER", "SETSLOT", slot, "NODE", theirs)
            counts = await store.run(rate_limits.hit(counters))
            assert [count.hits for count in counts] == [2] * len(counters)


async def test_node_that_tells_its_address_behind_nat_is_reached_by_remap() -> None:
    """A Cluster of one on the oldest server, which tells addresses alone: this one leads nowhere (RFC 5737)."""
    behind = {"cluster-enabled": "yes", "cluster-announce-ip": "192.0.2.1", "cluster-announce-port": "6379"}
    with RedisServer("redis6", port=free_port(), config=behind) as node:
        node.ask("CLUSTER", "ADDSLOTS", *range(SLOTS))
        url = f"redis+cluster://127.0.0.1:{node.port}"
        async with Store(f"{url}?remap=192.0.2.1:6379/127.0.0.1:{node.port}") as store, asyncio.timeout(30):
            while True:  # a new Cluster is down for a moment
                with contextlib.suppress(StoreUnavailable):
                    await store.ping()
                    break
                await asyncio.sleep(0.05)
        async with Store(url, ConnectionOptions(timeout=0.5)) as lost:
            with pytest.raises(StoreUnavailable):
                await lost.ping()


DOCUMENTED = {
    "one server": ("standalone", False),
    "a unix socket": ("standalone", False),
    "password alone": ("standalone", False),
    "user and password": ("standalone", False),
    "TLS": ("standalone", True),
    "Sentinel": ("sentinel", False),
    "Sentinel with TLS": ("sentinel", True),
    "Sentinel, whose sentinels ask for a password": ("sentinel", False),
    "Cluster": ("cluster", False),
    "Cluster with TLS": ("cluster", True),
    "Cluster behind NAT": ("cluster", False),
}


def test_each_form_that_the_operators_page_shows_is_read_as_what_it_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
    section = page.partition("## redis_url, in each of its forms")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|`]+) \| `([^`]+)` \|$", section, re.MULTILINE))
    read = {what: StoreUrl.parse(url) for what, url in rows.items()}
    assert {what: (url.topology, url.tls) for what, url in read.items()} == DOCUMENTED
    assert read["a unix socket"].socket_path
    assert read["one server"].password is None
    assert (read["password alone"].username, read["password alone"].password) == (None, "PASSWORD")
    assert all(url.username for what, url in read.items() if "Sentinel" in what or "Cluster" in what)
    assert read["Sentinel, whose sentinels ask for a password"].sentinel_password
    assert read["Cluster behind NAT"].reached_at(("10.0.0.5", 6379)) == ("203.0.113.5", 7001)


@pytest.mark.parametrize("password", ["p@ss/word", "pa#s@s", "/"])
def test_password_that_is_not_percent_encoded_is_told_as_that(password: str) -> None:
    with pytest.raises(StoreUrlError, match="%2F"):
        StoreUrl.parse(f"redis://user:{password}@host:6379/0")

"""What an operator should hear about a server, judged from what it tells. Each check gives one finding."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from shared_store.access_checks import authentication, files, network, permissions, transport
from shared_store.findings import CONFIG_HIDDEN, ERROR, OK, UNKNOWN, WARNING, Finding, Judgement, setting
from shared_store.server_facts import Facts

CLOCK_BOUND = 5.0  # seconds that this host and the server may differ
NEARLY_FULL = 0.9  # of maxmemory
TESTED = {"redis": ((6, 2), (8, 99)), "valkey": ((7, 2), (9, 99))}

_APPEND_ONLY = (
    "CONFIG SET appendonly yes first, then in redis.conf: a restart with the line in the file alone begins empty"
)
_NOT_TOLD = "the server does not tell {} (INFO)"


def version(facts: Facts) -> Judgement:
    """Supported: Redis 6.2 to 8, Valkey 7.2 to 9."""
    kind = "valkey" if "valkey_version" in facts.info or facts.info.get("server_name") == "valkey" else "redis"
    text = str(facts.info.get(f"{kind}_version", facts.info.get("redis_version", "")))
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers is None:
        return UNKNOWN, _NOT_TOLD.format("its version"), ""
    oldest, newest = TESTED[kind]
    found = f"{kind.capitalize()} {text}"
    if (int(numbers[1]), int(numbers[2])) < oldest:
        return ERROR, found, "install Redis 6.2 or later, or Valkey 7.2 or later"
    if (int(numbers[1]), int(numbers[2])) > newest:
        return WARNING, f"{found}, which this version was not tested with", f"{kind.capitalize()} {newest[0]}"
    return OK, found, ""


def role(facts: Facts) -> Judgement:
    """Only a master takes writes."""
    found = str(facts.info.get("role", ""))
    if not found:
        return UNKNOWN, _NOT_TOLD.format("its role"), ""
    if found == "master":
        return OK, "it is a master", ""
    master = f"{facts.info.get('master_host', '?')}:{facts.info.get('master_port', '?')}"
    return ERROR, f"it is a replica of {master}", "redis_url = the master, or its Sentinels"


def eviction_policy(facts: Facts) -> Judgement:
    """Keys without a time to live must never be evicted."""
    policy = str(facts.info.get("maxmemory_policy", ""))
    if not policy:
        return UNKNOWN, _NOT_TOLD.format("its maxmemory-policy"), ""
    if policy.startswith("volatile-"):
        return OK, f"maxmemory-policy {policy}", ""
    severity = ERROR if policy.startswith("allkeys-") else WARNING
    return severity, f"maxmemory-policy {policy}", setting("maxmemory-policy volatile-lru")


def memory_bound(facts: Facts) -> Judgement:
    """A server without a bound takes all the memory that there is."""
    if "maxmemory" not in facts.info:
        return UNKNOWN, _NOT_TOLD.format("its maxmemory"), ""
    bound, used = int(facts.info["maxmemory"]), int(facts.info.get("used_memory", 0))
    if not bound:
        return WARNING, "maxmemory is not set", setting("maxmemory 256mb")
    share, more = f"{used / bound:.0%} of maxmemory {_megabytes(bound)} is in use", f"maxmemory {_megabytes(2 * bound)}"
    if used < NEARLY_FULL * bound:
        return OK, share, ""
    if used >= bound and facts.info.get("maxmemory_policy") == "noeviction":
        return ERROR, f"{share}: new logins are refused", setting(more)
    return WARNING, share, setting(more)


def persistence(facts: Facts) -> Judgement:
    """What a restart forgets."""
    if "aof_enabled" not in facts.info:
        return UNKNOWN, _NOT_TOLD.format("how it persists"), ""
    if int(facts.info["aof_enabled"]):
        if facts.settings.get("appendfsync") == "no":
            found = "its append-only file reaches the disk when the system likes: a crash forgets half a minute"
            return WARNING, found, setting("appendfsync everysec")
        return OK, "it writes an append-only file", ""
    if "save" not in facts.settings:
        return UNKNOWN, f"there is no append-only file, and {CONFIG_HIDDEN}", _APPEND_ONLY
    if facts.settings["save"]:
        return WARNING, "there are snapshots alone: a crash forgets what came after the last", _APPEND_ONLY
    return WARNING, "neither snapshots nor an append-only file: a restart forgets everything", _APPEND_ONLY


def disk_writes(facts: Facts) -> Judgement:
    """Whether the last snapshot and the last write to the append-only file came to a good end."""
    if "rdb_last_bgsave_status" not in facts.info:
        return UNKNOWN, _NOT_TOLD.format("how its last snapshot went"), ""
    failed = [
        what
        for what, name in (("snapshot", "rdb_last_bgsave_status"), ("append-only file", "aof_last_write_status"))
        if facts.info.get(name, "ok") != "ok"
    ]
    if failed:
        found = f"writing the {' and the '.join(failed)} failed: see the server's log"
        return ERROR, found, "room on the disk that its `dir` is on, and a `dir` that Redis may write to"
    return OK, "the last writes to disk went well", ""


def stop_writes_on_bgsave_error(facts: Facts) -> Judgement:
    """A server that can't save should say so instead of promising what a restart forgets."""
    value = facts.settings.get("stop-writes-on-bgsave-error")
    if value is None:
        return UNKNOWN, CONFIG_HIDDEN, ""
    if value == "yes":
        return OK, "stop-writes-on-bgsave-error yes", ""
    return WARNING, f"stop-writes-on-bgsave-error {value}", setting("stop-writes-on-bgsave-error yes")


def replicas(facts: Facts) -> Judgement:
    """Who takes over, and how much a failover may forget."""
    if not facts.info:
        return UNKNOWN, _NOT_TOLD.format("who follows it"), ""
    count, wanted = int(facts.info.get("connected_slaves", 0)), facts.settings.get("min-replicas-to-write")
    if facts.url.topology != "standalone" and not count:
        mend = "replicaof MASTER PORT"
        if facts.url.topology == "cluster":  # whose nodes refuse replicaof
            mend = "redis-cli --cluster add-node NEW:PORT NODE:PORT --cluster-slave"
        return WARNING, "no replica is connected: nothing can take over from this master", mend
    found = "no replica" if not count else "1 replica" if count == 1 else f"{count} replicas"
    if wanted is None:
        return UNKNOWN, f"{found}; {CONFIG_HIDDEN}", ""
    if int(wanted) > count:
        mend = setting(f"min-replicas-to-write {count}")
        return ERROR, f"{found}, and min-replicas-to-write {wanted}: writes are refused", mend
    if count > 1 and wanted == "0":
        mend = setting("min-replicas-to-write 1")
        return WARNING, f"{found}, and a master that they lost goes on taking writes", mend
    return OK, f"{found}, min-replicas-to-write {wanted}", ""


def cluster_state(facts: Facts) -> Judgement:
    """Every slot needs a master, and the client has to know that it is a Cluster."""
    if not facts.info:
        return UNKNOWN, _NOT_TOLD.format("whether it is part of a Cluster"), ""
    enabled = bool(int(facts.info.get("cluster_enabled", 0)))
    if enabled and facts.url.topology != "cluster":
        return ERROR, "the server is part of a Cluster, and redis_url does not say so", "redis_url = redis+cluster://…"
    if not enabled:
        return OK, "no Cluster", ""
    if facts.cluster is None:
        return UNKNOWN, "this user may not ask for the state of the Cluster", ""
    state, slots = facts.cluster.get("cluster_state", "?"), facts.cluster.get("cluster_slots_ok", "?")
    if state == "ok" and slots == "16384":
        return OK, "the Cluster is whole", ""
    return ERROR, f"the Cluster's state is {state}, {slots} of 16384 slots are served", "redis-cli --cluster fix"


def database_number(facts: Facts) -> Judgement:
    """One database a server: numbers share memory, eviction, users and files, and a Cluster has only 0."""
    if facts.url.database:
        return WARNING, f"database {facts.url.database}", "redis_url = …/0, on a server of the broker's own"
    return OK, "database 0", ""


def strangers(facts: Facts) -> Judgement:
    """Nothing else should be in that database, nor on that server."""
    mine = f"db{facts.url.database}"
    others = [name for name in facts.info if re.fullmatch(r"db\d+", name) and name != mine]
    advice = "redis_url = a server of the broker's own"
    if others:
        return WARNING, f"in use on that server is also database {', '.join(name[2:] for name in others)}", advice
    if facts.strangers is None:
        return UNKNOWN, "this user may not list keys (SCAN)", ""
    if facts.strangers.prefixes:
        named = ", ".join(facts.strangers.prefixes[:5])
        return WARNING, f"there are keys that are not the broker's; they begin with {named}", advice
    if facts.strangers.rust_broker:
        return WARNING, "there are keys of a Rust Portier Broker: fine while moving in, then remove them", advice
    if not facts.strangers.looked_at:
        return OK, "there are no keys", ""
    return OK, f"of {facts.strangers.looked_at} keys that were looked at all are the broker's", ""


def clock(facts: Facts) -> Judgement:
    """Tokens carry times, and relying parties compare them."""
    if facts.clock_ahead is None:
        return UNKNOWN, "this user may not ask for the server's time (TIME)", ""
    found = f"Redis' clock and this host's are {abs(facts.clock_ahead):.1f} s apart"
    if abs(facts.clock_ahead) > CLOCK_BOUND:
        return WARNING, found, "systemctl enable --now chrony"
    return OK, found, ""


def _megabytes(count: int) -> str:
    return f"{math.ceil(count / 2**20)}mb"


CHECKS: Final[dict[Callable[[Facts], Judgement], str]] = {
    version: "older servers lack commands that the broker needs",
    role: "a replica refuses every write",
    eviction_policy: "allkeys-* throws keys and mails away; noeviction refuses logins where volatile-* makes room",
    memory_bound: "without a bound a flood ends with the kernel killing Redis; a full one evicts or refuses logins",
    persistence: "signing keys and mails that wait have to outlive a restart",
    disk_writes: "a server that can't save refuses writes, or forgets them at the next restart",
    stop_writes_on_bgsave_error: "a server that can't save must not promise what a restart forgets",
    replicas: "a master that is cut off from its replicas takes writes that the failover forgets",
    cluster_state: "a slot without a master refuses the logins and mails that lie there",
    database_number: "databases of one server share memory, eviction, users and files; a Cluster has only number 0",
    strangers: "another tenant can fill the memory, evict logins, or read signing keys",
    network: "whoever reaches the port can try passwords, and flaws in Redis need none",
    transport: "addresses, codes, tokens and signing keys go over this connection",
    authentication: "a second protection, if the network's fails: never the only one",
    permissions: "a service that lacks a right fails at the login that needs it; more than it needs can be misused",
    clock: "relying parties refuse tokens that were issued in their future",
    files: "the files hold addresses, tokens and, without key_encryption_key, private keys",
}


def judge(facts: Facts) -> list[Finding]:
    """Give the finding of every check, on one server."""
    findings = []
    for check, why in CHECKS.items():
        severity, found, mend = check(facts)
        findings.append(Finding(check.__name__, severity, found, why, mend, facts.where))
    return findings

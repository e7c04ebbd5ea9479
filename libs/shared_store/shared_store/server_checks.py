"""What an operator should hear about a server, judged from what it tells. Each check gives one finding."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared_store.findings import Finding, Severity
from shared_store.server_facts import Facts

CLOCK_BOUND = 5.0  # seconds that this host and the server may differ
NEARLY_FULL = 0.9  # of maxmemory
TESTED = {"redis": ((6, 2), (8, 99)), "valkey": ((7, 2), (9, 99))}


Judgement = tuple[Severity, str, str]  # with what was found, and what mends it

OK, UNKNOWN, WARNING, ERROR = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.ERROR
_CONFIG_HIDDEN = "the server does not tell its settings (CONFIG GET)"


def version(facts: Facts) -> Judgement:
    """Supported: Redis 6.2 to 8, Valkey 7.2 to 9."""
    kind = "valkey" if "valkey_version" in facts.info or facts.info.get("server_name") == "valkey" else "redis"
    text = str(facts.info.get(f"{kind}_version", facts.info.get("redis_version", "")))
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers is None:
        return UNKNOWN, "the server does not tell its version", ""
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
        return UNKNOWN, "the server does not tell its role", ""
    if found == "master":
        return OK, "it is a master", ""
    return ERROR, f"it is a replica of {facts.info.get('master_host', '?')}", "redis_url = the master, or its Sentinels"


def eviction_policy(facts: Facts) -> Judgement:
    """Keys without a time to live must never be evicted."""
    policy = str(facts.info.get("maxmemory_policy", ""))
    if not policy:
        return UNKNOWN, "the server does not tell its maxmemory-policy", ""
    if policy.startswith("volatile-"):
        return OK, f"maxmemory-policy {policy}", ""
    return (
        (ERROR if policy.startswith("allkeys-") else WARNING),
        f"maxmemory-policy {policy}",
        ("maxmemory-policy volatile-lru"),
    )


def memory_bound(facts: Facts) -> Judgement:
    """A server without a bound takes all the memory that there is."""
    if "maxmemory" not in facts.info:
        return UNKNOWN, "the server does not tell its maxmemory", ""
    bound, used = int(facts.info["maxmemory"]), int(facts.info.get("used_memory", 0))
    if not bound:
        return WARNING, "maxmemory is not set", "maxmemory 256mb"
    share = f"{used / bound:.0%} of maxmemory {bound >> 20} MB is in use"
    return (WARNING, share, f"maxmemory {2 * bound >> 20}mb") if used > NEARLY_FULL * bound else (OK, share, "")


def persistence(facts: Facts) -> Judgement:
    """What a restart forgets."""
    if "aof_enabled" not in facts.info:
        return UNKNOWN, "the server does not tell how it persists", ""
    if int(facts.info["aof_enabled"]):
        return OK, "it writes an append-only file", ""
    if "save" not in facts.settings:
        return UNKNOWN, f"there is no append-only file, and {_CONFIG_HIDDEN}", "appendonly yes"
    if facts.settings["save"]:
        return WARNING, "there are snapshots alone: a crash forgets what came after the last", "appendonly yes"
    return WARNING, "neither snapshots nor an append-only file: a restart forgets everything", "appendonly yes"


def disk_writes(facts: Facts) -> Judgement:
    """Whether the last snapshot and the last write to the append-only file came to a good end."""
    if "rdb_last_bgsave_status" not in facts.info:
        return UNKNOWN, "the server does not tell how its last snapshot went", ""
    failed = [
        what
        for what, name in (("snapshot", "rdb_last_bgsave_status"), ("append-only file", "aof_last_write_status"))
        if facts.info.get(name, "ok") != "ok"
    ]
    if failed:
        return ERROR, f"writing the {' and the '.join(failed)} failed: see the server's log", "dir = a disk with room"
    return OK, "the last writes to disk went well", ""


def stop_writes_on_bgsave_error(facts: Facts) -> Judgement:
    """A server that can't save should say so instead of promising what a restart forgets."""
    setting = facts.settings.get("stop-writes-on-bgsave-error")
    if setting is None:
        return UNKNOWN, _CONFIG_HIDDEN, ""
    if setting == "yes":
        return OK, "stop-writes-on-bgsave-error yes", ""
    return WARNING, f"stop-writes-on-bgsave-error {setting}", "stop-writes-on-bgsave-error yes"


def replicas(facts: Facts) -> Judgement:
    """Who takes over, and how much a failover may forget."""
    if not facts.info:
        return UNKNOWN, "the server does not tell who follows it (INFO)", ""
    count, wanted = int(facts.info.get("connected_slaves", 0)), facts.settings.get("min-replicas-to-write")
    if facts.url.topology != "standalone" and not count:
        mend = "replicaof MASTER PORT"
        if facts.url.topology == "cluster":  # whose nodes refuse replicaof
            mend = "redis-cli --cluster add-node NEW:PORT NODE:PORT --cluster-slave"
        return WARNING, "no replica is connected: nothing can take over from this master", mend
    if wanted is None:
        return UNKNOWN, f"{count} replicas; {_CONFIG_HIDDEN}", ""
    if int(wanted) > count:
        return (
            ERROR,
            f"min-replicas-to-write is {wanted}, and there are {count}: writes are refused",
            (f"min-replicas-to-write {count}"),
        )
    if count > 1 and wanted == "0":
        return (
            WARNING,
            f"{count} replicas, and a master that they lost goes on taking writes",
            "min-replicas-to-write 1",
        )
    return OK, f"{count} replicas, min-replicas-to-write {wanted}", ""


def cluster_state(facts: Facts) -> Judgement:
    """Every slot needs a master, and the client has to know that it is a Cluster."""
    if not facts.info:
        return UNKNOWN, "the server does not tell whether it is part of a Cluster (INFO)", ""
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
        return WARNING, f"the server's databases {', '.join(name[2:] for name in others)} are in use, too", advice
    if facts.strangers is None:
        return UNKNOWN, "this user may not list keys (SCAN)", ""
    if facts.strangers.prefixes:
        named = ", ".join(facts.strangers.prefixes[:5])
        return WARNING, f"{len(facts.strangers.prefixes)} kinds of keys are not the broker's: {named}", advice
    if facts.strangers.rust_broker:
        return WARNING, "there are keys of a Rust Portier Broker: fine while moving in, then remove them", advice
    return OK, f"all of {facts.strangers.looked_at} keys are the broker's", ""


def network(facts: Facts) -> Judgement:
    """Who reaches the port; a password comes only after that."""
    if facts.url.socket_path is not None:
        return OK, "a unix socket: only this machine reaches it", ""
    bound = facts.settings.get("bind")
    if bound is None:
        return UNKNOWN, _CONFIG_HIDDEN, ""
    everywhere = not bound or any(address.lstrip("-") in ("*", "0.0.0.0", "::", "::*") for address in bound.split())  # noqa: S104
    if not everywhere:
        return OK, f"bound to {bound}", ""
    protected = facts.settings.get("protected-mode") == "yes" and facts.open_to_anyone
    if protected:
        return OK, "bound to every address, and protected mode lets in this machine alone", ""
    return (
        WARNING,
        "bound to every address: see that only the broker's services reach the port",
        ("bind 127.0.0.1 and the address that only the services reach"),
    )


def transport(facts: Facts) -> Judgement:
    """Whether what goes to Redis can be read on the way: addresses, tokens, keys."""
    if facts.url.tls:
        return OK, "TLS", ""
    if is_local(facts):
        return OK, "it does not leave this machine", ""
    return WARNING, "plain TCP over a network", "redis_url = rediss://…, with tls-port, tls-cert-file, tls-key-file"


def authentication(facts: Facts) -> Judgement:
    """A second protection beside the network's."""
    if facts.open_to_anyone is None:
        return UNKNOWN, "it could not be tried without a password", ""
    if not facts.open_to_anyone:
        return OK, f"user {facts.url.username or 'default'}, with a password", ""
    if facts.url.socket_path is not None:
        return OK, "no password; who may open the socket decides", ""
    if facts.url.password:
        return WARNING, "redis_url has a password, but Redis lets everyone in without one", "user default off"
    return (
        WARNING,
        "no password",
        "aclfile /etc/redis/users.acl (docker/users.acl), redis_url = redis://USER:PASSWORD@…",
    )


def permissions(facts: Facts) -> Judgement:
    """Whether each service may do what it needs, and no more."""
    if facts.missing_rights is None:
        return UNKNOWN, "what the services may do can't be told: before Redis 7, or no users of their names", ""
    lacking = {who: rights for who, rights in facts.missing_rights.items() if rights}
    if lacking:
        told = [
            f"{service} {'' if user == service else f'as user {user} '}lacks {' '.join(rights)}"
            for (service, user), rights in lacking.items()
        ]
        wanted: dict[str, dict[str, None]] = {}
        for (_, user), rights in lacking.items():
            wanted.setdefault(user, {}).update(dict.fromkeys(rights))
        mend = "\n".join(f"ACL SETUSER {user} {' '.join(rights)}" for user, rights in wanted.items())
        return ERROR, "; ".join(told), mend
    if facts.may_do_anything and not is_local(facts):
        return (
            WARNING,
            "this user may do anything, FLUSHALL included",
            "aclfile /etc/redis/users.acl (docker/users.acl)",
        )
    return OK, "the services may do what they need", ""


def clock(facts: Facts) -> Judgement:
    """Tokens carry times, and relying parties compare them."""
    if facts.clock_ahead is None:
        return UNKNOWN, "this user may not ask for the server's time (TIME)", ""
    found = f"Redis' clock and this host's are {abs(facts.clock_ahead):.1f} s apart"
    if abs(facts.clock_ahead) > CLOCK_BOUND:
        return WARNING, found, "systemctl enable --now chrony"
    return OK, found, ""


def files(facts: Facts) -> Judgement:
    """Who may read the files that Redis writes."""
    directory = facts.settings.get("dir")
    if directory is None or not is_local(facts):
        return UNKNOWN, "its folder can't be seen from here: it should be 0700 and Redis' own", ""
    try:
        mode = stat.S_IMODE(Path(directory).stat().st_mode)
    except OSError:
        return UNKNOWN, f"{directory} can't be seen from here: it should be 0700 and Redis' own", ""
    if mode & 0o077:
        return WARNING, f"{directory} has mode {mode:04o}: others may read what Redis writes", f"chmod 0700 {directory}"
    return OK, f"{directory} has mode {mode:04o}", ""


def is_local(facts: Facts) -> bool:
    """Tell whether what goes to the server stays on this machine."""
    return facts.url.socket_path is not None or all(_is_loopback(host) for host, _ in facts.url.nodes)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


CHECKS: Final[dict[Callable[[Facts], Judgement], str]] = {
    version: "older servers lack commands that the broker needs",
    role: "a replica refuses every write",
    eviction_policy: "allkeys-* throws keys and mails away; noeviction refuses logins where volatile-* makes room",
    memory_bound: "without a bound a flood of logins ends with the kernel killing Redis",
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

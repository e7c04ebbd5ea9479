"""Which service needs which commands, keys and channels of Redis: the table that docker/users*.acl are made from.

Keys follow from keyspace.py (who writes and reads them), the commands inside scripts from the scripts' own text. What a
service sends beside its scripts, and its channels, stand here. The tests of this table run every service under it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared_store.commands import load_script
from shared_store.keyspace import KEYS, KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL, mail_result_channel

# What every connection sends, what doctor asks, and what running a script takes.
EVERY_SERVICE: Final = ("client|setname", "eval", "evalsha", "info", "ping", "time")
CLUSTER: Final = ("asking", "cluster|slots", "command")  # how a client finds its way in a Cluster
DATABASE: Final = ("select",)  # where redis_url names another database than 0
DOCTOR_USER: Final = "doctor"
DOCTOR: Final = ("acl|dryrun", "client|setname", "config|get", "eval", "info", "ping", "scan", "time")
DOCTOR_IN_CLUSTER: Final = ("cluster|info", *CLUSTER)
# As Redis' own documentation has it: what a replica asks of its master, and a Sentinel of the servers that it watches.
REPLICA: Final = ("ping", "psync", "replconf")
SENTINEL: Final = (
    "client|kill", "client|setname", "config|rewrite", "exec", "info", "multi", "ping", "publish", "role",
    "script|kill", "slaveof", "subscribe",
)  # fmt: skip
_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")


@dataclass(frozen=True, slots=True)
class Access:
    """What one service does in Redis: the scripts it runs, the commands it sends by themselves, its channels."""

    service: str
    scripts: tuple[str, ...]
    sends: tuple[str, ...]
    channels: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The key patterns that it writes or reads, as Redis globs."""
        return tuple(key.glob for key in KEYS if self.service in key.writers + key.readers)

    def commands(self, *, cluster: bool = False) -> tuple[str, ...]:
        """Every command, in lower case: sent, called by its scripts, or common to all."""
        called = {name for script in self.scripts for name in commands_of(script)}
        return tuple(sorted({*EVERY_SERVICE, *self.sends, *called, *(CLUSTER if cluster else ())}))

    def rights(self, *, cluster: bool = False) -> tuple[str, ...]:
        """Spell it as the rules of an ACL user, which fit Redis 6.2 and everything after it."""
        return (
            *(f"~{pattern}" for pattern in self.keys),
            *(f"&{channel}" for channel in self.channels),
            *(f"+{command}" for command in self.commands(cluster=cluster)),
        )


AUTH_API: Final = Access(
    service="auth-api",
    scripts=(
        "allow_resend", "check_code", "consume_login", "enqueue_mail", "hit_limit", "load_key_set", "lock",
        "mail_logins", "read_fetch", "refund_limit", "save_auth_code", "save_login", "take_auth_code", "write_fetch",
    ),
    sends=("del", "exists", "get", "hmget", "mget", "pttl", "scan", "set", "subscribe", "wait"),
    channels=(KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL, mail_result_channel("*")),
)  # fmt: skip
MAILER: Final = Access(
    service="mailer",
    scripts=(
        "claim_mail", "delay_mail", "expired_workers", "finish_mail", "give_back_mail", "gone_workers", "lock",
        "mail_logins", "mend_mail", "promote_mail", "reap_mail", "renew_lease", "revive_mail",
    ),
    sends=(
        "blmove", "del", "exists", "get", "hget", "llen", "lrange", "mget", "pttl", "scan", "set", "wait", "zcard",
        "zrange",
    ),
    channels=(UNLOCKED_CHANNEL, mail_result_channel("*")),
)  # fmt: skip
KEY_ROTATOR: Final = Access(
    service="key-rotator",
    scripts=("load_key_set", "lock", "log_key_event", "swap_key_set"),
    sends=("hget", "lrange", "subscribe", "wait"),
    channels=(KEYS_UPDATED_CHANNEL, UNLOCKED_CHANNEL),
)
SERVICES: Final = {access.service: access for access in (AUTH_API, MAILER, KEY_ROTATOR)}


def commands_of(script: str) -> Iterator[str]:
    """Give the commands that a script calls, in lower case."""
    return (name.lower() for name in _CALL.findall(load_script(script).text))

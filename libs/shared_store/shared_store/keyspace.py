"""Every key and channel that this project has in Redis. Nothing else in the tree spells one.

What stands in braces inside a key is its hash tag: keys with the same tag lie in one slot of a Cluster, so one
script may touch them together. `docs/redis-keys.md` is made from this file.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from string import Formatter
from typing import Final


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """One kind of key: how it is spelled, what lies there, for how long, whose it is.

    `ttl` is text for people; None means that the key never expires, and then `why` says what bounds it.
    """

    pattern: str
    type: str
    ttl: str | None
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    why: str

    def key(self, **parts: str | int) -> str:
        """Spell one key of this kind."""
        return self.pattern.format(**parts)

    @property
    def glob(self) -> str:
        """Every key of this kind, as Redis matches it: each part that varies is a star."""
        return self.key(**{name: "*" for _, name, _, _ in Formatter().parse(self.pattern) if name})


LOGIN: Final = KeyPattern(
    pattern="login:{{{session}}}",
    type="HASH",
    ttl="session_ttl; 30 s once consumed",
    writers=("auth-api",),
    readers=("auth-api",),
    why="A login in flight. Once consumed it stays for a moment: a command sent again gets the same answer.",
)
AUTH_CODE: Final = KeyPattern(
    pattern="authcode:{{{digest}}}",
    type="HASH",
    ttl="auth_code_ttl; 30 s once redeemed",
    writers=("auth-api",),
    readers=("auth-api",),
    why="What an authorization code stands for, under the code's SHA-256.",
)
ACCESS_TOKEN: Final = KeyPattern(
    pattern="access:{{{digest}}}",
    type="HASH",
    ttl="token_ttl",
    writers=("auth-api",),
    readers=("auth-api",),
    why="What userinfo tells, beside the code it came from: a code presented twice takes its access token along.",
)
LIMIT: Final = KeyPattern(
    pattern="limit:{{{digest}}}",
    type="STRING",
    ttl="the limit's window",
    writers=("auth-api",),
    readers=("auth-api",),
    why="A counter, under a digest of limit and values: no address and no network lies in Redis for it.",
)
FETCH: Final = KeyPattern(
    pattern="fetch:{{{digest}}}",
    type="HASH",
    ttl="from the response, bounded",
    writers=("auth-api",),
    readers=("auth-api",),
    why="A document of another server, or the fact that fetching it failed, under the URL's digest.",
)
LOCK: Final = KeyPattern(
    pattern="lock:{{{name}}}",
    type="STRING",
    ttl="10 to 30 s",
    writers=("auth-api", "mailer", "key-rotator"),
    readers=("auth-api", "mailer", "key-rotator"),
    why="The owner's token. Guards work, never truth: what is written under it is written with a version check.",
)
KEY_SET: Final = KeyPattern(
    pattern="keys:{{{alg}}}",
    type="HASH",
    ttl=None,
    writers=("key-rotator",),
    readers=("auth-api", "key-rotator"),
    why="The signing keys of one algorithm and their version. Losing them would break every relying party's cache.",
)
KEY_LOG: Final = KeyPattern(
    pattern="key-log:{{{alg}}}",
    type="LIST",
    ttl=None,
    writers=("key-rotator",),
    readers=("key-rotator",),
    why="What happened to those keys, when and by whom, newest first, at most 1000; key ids only, never a key.",
)
MAIL_READY: Final = KeyPattern(
    pattern="mail:{{{tag}}}:ready",
    type="LIST",
    ttl=None,
    writers=("auth-api", "mailer"),
    readers=("mailer",),
    why="Ids of jobs to send now, bounded by mail_queue_max: pushed on the left, taken from the right.",
)
MAIL_TAKEN: Final = KeyPattern(
    pattern="mail:{{{tag}}}:taken:{worker}",
    type="LIST",
    ttl=None,
    writers=("mailer",),
    readers=("mailer",),
    why="Ids that one worker has in hand, at most mail_concurrency; when its lease ends, the reaper's.",
)
MAIL_JOBS: Final = KeyPattern(
    pattern="mail:{{{tag}}}:jobs",
    type="HASH",
    ttl=None,
    writers=("auth-api", "mailer"),
    readers=("mailer",),
    why="Id to job (JSON). An entry goes when its job is delivered or dead.",
)
MAIL_DELAYED: Final = KeyPattern(
    pattern="mail:{{{tag}}}:delayed",
    type="ZSET",
    ttl=None,
    writers=("auth-api", "mailer"),
    readers=("mailer",),
    why="Id to the time (ms) of the next attempt; counts towards mail_queue_max.",
)
MAIL_DEATHS: Final = KeyPattern(
    pattern="mail:{{{tag}}}:deaths",
    type="HASH",
    ttl=None,
    writers=("auth-api", "mailer"),
    readers=("mailer",),
    why="Id to how many workers died holding it; goes with the job.",
)
MAIL_LOGINS: Final = KeyPattern(
    pattern="mail:{{{tag}}}:logins",
    type="HASH",
    ttl=None,
    writers=("auth-api", "mailer"),
    readers=("auth-api", "mailer"),
    why="A login's digest to its job in the queue, and to a newer one behind that; goes with the job.",
)
MAIL_LEASES: Final = KeyPattern(
    pattern="mail:{{{tag}}}:leases",
    type="ZSET",
    ttl=None,
    writers=("mailer",),
    readers=("mailer",),
    why="Worker to the time (ms) when its lease ends; one entry a running worker.",
)
MAIL_GONE: Final = KeyPattern(
    pattern="mail:{{{tag}}}:gone",
    type="ZSET",
    ttl=None,
    writers=("mailer",),
    readers=("mailer",),
    why="Worker to the time (ms) when its lease was ended: for an hour, since a late move may still fill its hand.",
)
MAIL_DEAD: Final = KeyPattern(
    pattern="mail:{{{tag}}}:dead",
    type="LIST",
    ttl=None,
    writers=("mailer",),
    readers=("mailer",),
    why="Jobs given up, newest first, at most 1000: reason and history, personal data redacted.",
)
MAIL_RESULT: Final = KeyPattern(
    pattern="mail:{{{tag}}}:result:{job}",
    type="STRING",
    ttl="120 s",
    writers=("mailer",),
    readers=("auth-api",),
    why="A job's outcome, for the page that waits and to know a repeated enqueue for what it is.",
)
SUPPRESSED: Final = KeyPattern(
    pattern="suppressed:{{{digest}}}",
    type="STRING",
    ttl="suppression_ttl",
    writers=("auth-api", "mailer"),
    readers=("auth-api", "mailer"),
    why="Why an address is not mailed any more (JSON), under the address's digest by suppression_key.",
)
WEBHOOK_SEEN: Final = KeyPattern(
    pattern="webhook-seen:{{{digest}}}",
    type="STRING",
    ttl="1 day",
    writers=("auth-api",),
    readers=("auth-api",),
    why="That a signed webhook has been taken: the same one again does nothing, though its signature holds.",
)

KEYS: Final = tuple(value for value in list(globals().values()) if isinstance(value, KeyPattern))

KEYS_UPDATED_CHANNEL: Final = "keys-updated"
UNLOCKED_CHANNEL: Final = "unlocked"


def mail_result_channel(instance: str) -> str:
    """Name the channel on which one auth-api instance hears the outcome of its mail jobs."""
    return f"mail-result:{instance}"


def rust_key_set(alg: str) -> str:
    """Name the key set of a Rust broker in its own Redis; key-rotator reads it once, to adopt its keys."""
    return f"keys:{alg}"


_KINDS: Final = tuple((key.glob, re.compile(translate(key.glob))) for key in KEYS)
_RUST_BROKERS: Final = re.compile(rb"(session|auth_code|cache|lock|keys):[^{].*|rate-limit:.*|https?://.*", re.DOTALL)


def kind_of(word: str | bytes | int) -> str | None:
    """Give the pattern of one of this project's keys, `login:{*}` for one; None for anything else."""
    text = word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
    return next((glob for glob, expression in _KINDS if expression.match(text)), None)


def is_rust_brokers(key: bytes) -> bool:
    """Tell whether a key is one that a Rust broker writes."""
    return _RUST_BROKERS.fullmatch(key) is not None


def digest(*parts: str) -> str:
    """Give 128 bits of SHA-256 over the parts, as hexadecimal: fit for a key, and telling nothing of what went in."""
    return _sha256(parts).hex()[:32]


def short_digest(*parts: str) -> str:
    """Give 120 bits of it in 20 characters, for keys of which each login has several: memory goes by 16 octets."""
    return base64.urlsafe_b64encode(_sha256(parts)[:15]).decode()


def _sha256(parts: Sequence[str]) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()

"""What a user may do, asked without doing it: no line in the ACL log, and no harm done.

Keys, channels and commands are told apart: whoever is told to be given `&keys-updated` beside the `&*` that it has is
helped by nothing, and Redis refuses the line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from redis.exceptions import ResponseError

from shared_store.acl import CLUSTER, DATABASE, DOCTOR, DOCTOR_IN_CLUSTER, DOCTOR_USER, SERVICES
from shared_store.commands import Call, Reply, load_script
from shared_store.store_url import StoreUrl

Ask = Callable[..., Awaitable[Reply]]  # sends one command, given as words, to one server
Words = tuple[str, ...]
MissingRights = Mapping[tuple[str, str], tuple[str, ...]]  # by service and by the user that it was looked for under

_MAY_DO = load_script("may_do")
_CANT_RUN: Final = " to run the "  # in ACL DRYRUN's answer: it is the command that is denied, and no key or channel


def may_send(*commands: Sequence[str]) -> Call[list[bool | None]]:
    """Tell for each command whether this user may send it; None where the server can't tell (before Redis 7).

    Sent as EVAL: doctor's own user may not load scripts.
    """

    def decode(replies: list[Reply]) -> list[bool | None]:
        [answers] = replies
        return [None] * len(commands) if answers is None else [bool(answer) for answer in answers]

    words = [word for command in commands for word in (str(len(command)), *command)]
    return Call((_MAY_DO([], *words).with_script_text(),), decode)


async def may(ask: Ask, *commands: Sequence[str]) -> list[bool | None]:
    """Tell the same of one server."""
    call = may_send(*commands)
    return call.decode([await ask(*one.words) for one in call.commands])


async def missing_rights(ask: Ask, url: StoreUrl, services: Sequence[str]) -> MissingRights | None:
    """Tell what each service lacks under the user that we are or, for an operator's user, under its own.

    None where the server can't tell, or doctor's user finds no users that are named like the services.
    """
    ours, missing, is_unknown = url.user, {}, False
    for name in (*services, DOCTOR_USER) if ours == DOCTOR_USER else services:
        needed = Needed.by(name, url)
        lacking = await _lacked_by_us(ask, needed)
        if lacking is None:
            return None
        theirs = await _lacked_by(name, ask, needed) if lacking and name != ours else None
        if theirs is not None:
            missing[name, name] = theirs
        elif lacking and name != ours == DOCTOR_USER:
            is_unknown = True
        else:
            missing[name, ours] = lacking
    return None if is_unknown and not any(missing.values()) else missing


def to_connect(url: StoreUrl) -> tuple[str, ...]:
    """Give the rights that a connection needs before anything else can be asked."""
    select, find_nodes = DATABASE if url.database else (), CLUSTER if url.topology == "cluster" else ()
    return tuple(f"+{name}" for name in ("client|setname", *select, *find_nodes))


@dataclass(frozen=True, slots=True)
class Needed:
    """Commands, and patterns of keys and channels, that somebody needs."""

    commands: tuple[str, ...]
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    @classmethod
    def by(cls, name: str, url: StoreUrl) -> Needed:
        """Say what a service, or doctor's own user, needs where redis_url is of this form."""
        is_cluster, select = url.topology == "cluster", DATABASE if url.database else ()
        if name == DOCTOR_USER:
            return cls((*DOCTOR, *(DOCTOR_IN_CLUSTER if is_cluster else ()), *select))
        access = SERVICES[name]
        return cls((*access.commands(cluster=is_cluster), *select), access.keys, access.channels)


async def _lacked_by_us(ask: Ask, needed: Needed) -> tuple[str, ...] | None:
    """Tell what the user that we are lacks; None where the server can't tell.

    Where it may touch none of the keys its commands on keys can't be told, nor its channels where it may neither
    publish nor subscribe: they are, once the rest is mended.
    """
    pubsub = {channel: _pubsub(channel) for channel in needed.channels}
    touches = {glob: _touch(glob) for glob in needed.keys}
    asked = [*touches.values(), *(words for both in pubsub.values() for words in both), *_PUBSUB]
    allowed = await _allowed(ask, asked)
    if allowed is None:
        return None
    touched = next((glob for glob, words in touches.items() if words in allowed), None)
    samples = {name: words for name in needed.commands if (words := _sample(name, touched))}
    allowed |= await _allowed(ask, list(samples.values())) or set()
    return (
        *(f"~{glob}" for glob, words in touches.items() if words not in allowed),
        *(f"&{channel}" for channel, both in pubsub.items() if allowed & {*_PUBSUB} and not allowed & {*both}),
        *(f"+{name}" for name, words in samples.items() if words not in allowed),
    )


async def _allowed(ask: Ask, commands: Sequence[Words]) -> set[Words] | None:
    answers = await may(ask, *commands)
    if None in answers:
        return None
    return {words for words, answer in zip(commands, answers, strict=True) if answer}


async def _lacked_by(user: str, ask: Ask, needed: Needed) -> tuple[str, ...] | None:
    """Tell what another user lacks; None where there is none of that name, or we may not ask."""
    if not (await may(ask, ("acl", "dryrun", user, "ping")))[0]:
        return None

    async def told(*words: str) -> str:
        reply = await ask("ACL", "DRYRUN", user, *words)
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    async def is_denied(*ways: Words) -> bool:
        """Tell whether a key or a channel is, by whatever command the user may send."""
        answers = [answer for words in ways if _CANT_RUN not in (answer := await told(*words))]
        return bool(answers) and "OK" not in answers

    try:
        return (
            *[f"~{glob}" for glob in needed.keys if await is_denied(_touch(glob))],
            *[f"&{channel}" for channel in needed.channels if await is_denied(*_pubsub(channel))],
            *[f"+{name}" for name in needed.commands if _CANT_RUN in await told(*_sample(name, "*", "doctor"))],
        )
    except ResponseError:
        return None


# --- what is asked about: commands that look harmless ---

_WORDS: Final = {
    "acl|dryrun": ("acl", "dryrun", "doctor", "ping"),
    "client|setname": ("client", "setname", "doctor"),
    "cluster|info": ("cluster", "info"),
    "cluster|slots": ("cluster", "slots"),
    "config|get": ("config", "get", "dir"),
    "eval": ("eval", "", "0"),
    "evalsha": ("evalsha", "0", "0"),
    "scan": ("scan", "0"),
    "select": ("select", "0"),
    "wait": ("wait", "0", "0"),
} | {name: (name,) for name in ("asking", "command", "info", "ping", "time")}
_PUBSUB: Final[tuple[Words, Words]] = (("publish",), ("subscribe",))  # without channels: the commands alone
_ONE_MORE: Final = ("hdel", "hexists", "hget", "hmget", "lpush", "pexpire", "rpush", "set", "zrem", "zscore")
_TWO_MORE: Final = (
    "hincrby", "hset", "lpos", "lrange", "lrem", "lset", "ltrim", "zadd", "zrange", "zrangebyscore", "zremrangebyscore",
)  # fmt: skip


def _touch(glob: str) -> Words:
    """Touch a key by EVAL, which whoever can be asked at all may send."""
    return ("eval", "", "1", _key(glob))


def _key(glob: str) -> str:
    return glob.replace("*", "doctor")


def _pubsub(channel: str) -> tuple[Words, Words]:
    return ("publish", _key(channel), ""), ("subscribe", _key(channel))


def _sample(name: str, glob: str | None, *channel: str) -> Words:
    """Give a command with as many words as Redis asks for, or nothing where it takes a key and there is none."""
    if name in _WORDS:
        return _WORDS[name]
    if name in ("publish", "subscribe"):
        return (name, *channel, *("" for _ in channel if name == "publish"))
    if glob is None:
        return ()
    if name == "blmove":
        return (name, _key(glob), _key(glob), "LEFT", "RIGHT", "0")
    return (name, _key(glob), *("0" * (1 if name in _ONE_MORE else 2 if name in _TWO_MORE else 0)))

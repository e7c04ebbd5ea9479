"""The parts of the mail queue: how they are named, and in which of them something lies.

auth-api and mailers may know different numbers for a while, so mail may be where a mailer does not expect it. Whether
it is, is asked of the queues themselves: a list of queues in use, kept beside them, could be wrong or lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared_store.commands import Call, command
from shared_store.keyspace import MAIL_DEAD, MAIL_JOBS

MOST_SHARDS: Final = 64  # a few times the masters of the biggest Cluster that a broker will meet


def queue_tags(shards: int) -> Sequence[str]:
    """Name the hash tags of the queues: `mail`, then `mail-1`, `mail-2` and so on."""
    return ["mail", *(f"mail-{number}" for number in range(1, shards))]


def tags_with(tags: Sequence[str], *, dead: bool = False) -> Call[list[str]]:
    """Of these queues, name those in which a job is: waiting, in somebody's hand, or, with `dead`, given up."""
    patterns = (MAIL_JOBS, MAIL_DEAD) if dead else (MAIL_JOBS,)
    return Call(
        tuple(command("EXISTS", *(pattern.key(tag=tag) for pattern in patterns)) for tag in tags),
        lambda replies: [tag for tag, there in zip(tags, replies, strict=True) if there],
    )

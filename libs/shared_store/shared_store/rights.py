"""What a user may send, asked without sending it: no line in the ACL log, and no harm done."""

from __future__ import annotations

from collections.abc import Sequence

from shared_store.commands import Call, Reply, load_script

_MAY_DO = load_script("may_do")


def may_send(*commands: Sequence[str]) -> Call[list[bool | None]]:
    """Tell for each command whether this user may send it; None where the server can't tell (before Redis 7).

    Sent as EVAL: doctor's own user may not load scripts.
    """

    def decode(replies: list[Reply]) -> list[bool | None]:
        [answers] = replies
        return [None] * len(commands) if answers is None else [bool(answer) for answer in answers]

    words = [word for command in commands for word in (str(len(command)), *command)]
    return Call((_MAY_DO([], *words).with_script_text(),), decode)

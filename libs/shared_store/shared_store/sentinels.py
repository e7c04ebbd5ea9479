"""How a client learns from Sentinels who is master: from those that answer, however many of them are silent.

redis-py asks them one after another, each for as long as `redis_timeout`. Where the first one's machine is gone, and a
master often goes with it, nobody who has less time than that ever gets as far as the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004

from shared_store.errors import NO_MASTER, NO_SENTINEL, most_telling
from shared_store.store_url import Address

STRAGGLERS = 0.2  # seconds that the others have once one has answered

Masters = dict[str, dict[str, Any]]  # what a sentinel tells of each, by name


class Sentinels(Sentinel):
    """Asks all sentinels at once, and believes the one that knows of the latest failover."""

    async def discover_master(self, service_name: str) -> Address:
        """Give the master's address.

        Raises:
            MasterNotFoundError: no sentinel names one that is up; where none answers, the reason is its cause.
            ResponseError: what is asked is no sentinel, or does not let us ask.
        """
        answers = await _answers([asyncio.create_task(_masters(sentinel)) for sentinel in self.sentinels])
        states = [answer[service_name] for answer in answers if isinstance(answer, dict) and service_name in answer]
        named = [state for state in states if self.check_master_state(state, service_name)]
        if named:
            newest = max(named, key=lambda state: int(state["config-epoch"]))
            return newest["ip"], newest["port"]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        silent = [failure for failure in failures if isinstance(failure, ConnectionError | TimeoutError)]
        for failure in failures:
            if failure not in silent:
                raise failure
        if len(silent) < len(answers):
            raise MasterNotFoundError(f"{NO_MASTER} {service_name!r}")
        reason = most_telling(silent)
        raise MasterNotFoundError(f"{NO_SENTINEL}: {type(reason).__name__}: {reason}") from reason


async def _masters(sentinel: Redis) -> Masters:
    return await sentinel.sentinel_masters()  # type: ignore[return-value]  # a list by RESP3 alone


async def _answers(asking: Sequence[asyncio.Task[Masters]]) -> list[Masters | BaseException | None]:
    """Give each answer or error, in order; None for those that say nothing for a while after one has answered."""
    waiting = set(asking)
    try:
        while waiting:
            is_answered = any(task.done() and not task.exception() for task in asking)
            patience = STRAGGLERS if is_answered else None
            done, waiting = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
        return [task.exception() or task.result() if task.done() else None for task in asking]
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

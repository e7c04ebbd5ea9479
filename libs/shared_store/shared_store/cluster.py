"""One round trip with a Cluster, and what has to be sent again because its slots or its masters move.

redis-py follows redirections with gaps: it sends ASKING and the command that it is for by two connections, does not
know a node without slots yet, and takes the address in MOVED as it is where `remap` says that it is another from here.
So redirections are followed here, from the replies of its pipelines.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import count
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

from shared_store.commands import Command, Reply
from shared_store.errors import StoreDemoted, translate

LOST_TRIES = 3  # of what was lost with its connection, each of which redis-py tries several times by itself
OVERRUN = 0.5  # seconds that a try which began in time may take longer; less than the store's GRACE
PAUSES = (0.0, 0.005, 0.02, 0.05)  # seconds before a try, the last before all that follow

_REDIRECTIONS = (redis_errors.MovedError, redis_errors.AskError, redis_errors.TryAgainError)
_LOST = RedisCluster.ERRORS_ALLOW_RETRY


async def exchange(
    client: RedisCluster, commands: Sequence[Command], *, within: float, once: bool = False
) -> list[Reply]:
    """Send commands in one round trip, and those again that a moving Cluster turned away, for `within` seconds.

    A command's error is its reply. Unless it has to be `once`, what was lost with its connection is sent again, too,
    and may be carried out twice. WAIT follows the write that it is for.
    """
    ends = asyncio.get_running_loop().time() + within
    await client.initialize()
    replies, units = await _pipeline(client, commands), _units(commands)
    for tries in count():
        most = LOST_TRIES if once else tries
        again = [(unit, failure) for unit in units if (failure := _that_passes(replies[unit], most))]
        pause = PAUSES[min(tries, len(PAUSES) - 1)] * random.uniform(0.5, 1)  # noqa: S311 - only spreads the load
        if not again or asyncio.get_running_loop().time() + pause > ends:
            break
        await asyncio.sleep(pause)
        for unit, failure in again:
            try:
                async with asyncio.timeout_at(ends + OVERRUN):
                    replies[unit] = await _send_again(client, commands[unit], failure)
            except TimeoutError:
                return replies  # what was told before says more than that time is over
    return replies


def _that_passes(replies: Sequence[Reply], tries: int) -> Exception | None:
    return next((reply for reply in replies if _passes(reply, tries)), None)


def _passes(reply: Reply, tries: int) -> bool:
    """Tell whether a reply is a failure that passes, after so many tries."""
    is_moving = isinstance(reply, _REDIRECTIONS) or type(reply) is redis_errors.ClusterError  # too many redirections
    # WAIT, at an old master.
    is_demoted = isinstance(reply, redis_errors.ResponseError) and isinstance(translate(reply), StoreDemoted)
    is_lost = isinstance(reply, _LOST) and not isinstance(reply, redis_errors.AuthenticationError)
    return is_moving or is_demoted or (is_lost and tries < LOST_TRIES)


def _units(commands: Sequence[Command]) -> list[slice]:
    """Where what is sent again together stands: each command alone, but the last write with the WAIT behind it."""
    count_alone = len(commands) - (2 if commands[-1].words[0] == "WAIT" else 0)
    alone = [slice(i, i + 1) for i in range(count_alone)]
    return alone if count_alone == len(commands) else [*alone, slice(count_alone, len(commands))]


async def _send_again(client: RedisCluster, unit: Sequence[Command], reply: Reply) -> list[Reply]:
    if isinstance(reply, redis_errors.AskError):  # MovedError is one, too
        reply.host, reply.port = client.nodes_manager.remap_host_port(reply.host, reply.port)
        if not isinstance(reply, redis_errors.MovedError):
            return await _ask(client, unit, _node(client, reply))
        await client.nodes_manager.move_slot(reply)
    elif isinstance(reply, _LOST) and len(unit) == 1:
        # This way redis-py looks for the new master, and waits for it a little.
        try:
            return [await client.execute_command(*unit[0].words)]
        except (redis_errors.RedisError, OSError) as error:
            return [error]
        except AttributeError:  # of the node without slots that redis-py does not know
            return [reply]
    return await _pipeline(client, unit)


async def _ask(client: RedisCluster, unit: Sequence[Command], node: ClusterNode) -> list[Reply]:
    """Send to the node that imports the slot, each with its ASKING before it on the same connection."""
    pipeline = client.pipeline(transaction=False)
    for one in unit:
        if one.words[0] != "WAIT":
            pipeline.execute_command("ASKING", target_nodes=[node])
        pipeline.execute_command(*one.words, target_nodes=[node])
    replies = await _execute(pipeline, len(unit) + 1)
    return replies[1:]


def _node(client: RedisCluster, error: redis_errors.AskError) -> ClusterNode:
    known = client.get_node(error.host, error.port)
    if known is None:  # it has no slot yet
        known = ClusterNode(error.host, error.port, "primary", **client.nodes_manager.connection_kwargs)
        client.nodes_manager.set_nodes(client.nodes_manager.nodes_cache, {known.name: known})
    return known


async def _pipeline(client: RedisCluster, commands: Sequence[Command]) -> list[Reply]:
    pipeline = client.pipeline(transaction=False)
    for i, one in enumerate(commands):
        where: dict[str, Any] = {}
        if one.words[0] == "WAIT":  # goes where the write before it does: EVALSHA sha count key
            where = {"target_nodes": [client.get_node_from_key(str(commands[i - 1].words[3]))]}
        pipeline.execute_command(*one.words, **where)
    return await _execute(pipeline, len(commands))


async def _execute(pipeline: Any, size: int) -> list[Reply]:
    try:
        replies: list[Reply] = await pipeline.execute(raise_on_error=False, allow_redirections=False)
    except (redis_errors.RedisError, OSError) as error:
        return [error] * size
    return replies

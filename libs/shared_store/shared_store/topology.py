"""How a client of a Cluster learns which node has which slots: from whichever of the nodes that it knows tells most.

redis-py asks them one after another, and begins with a question to the master of the first slots whatever becomes of
it: where that one is dead and not replaced, or the first of the URL's addresses takes long to fail, no client begins.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import RedisClusterException, SlotNotCoveredError

from shared_store.errors import most_telling


class Topology(NodesManager):
    """Asks all nodes at once, and goes on with one that has answered."""

    def __init__(self, startup_nodes: list[ClusterNode], connection_kwargs: dict[str, Any], **other: Any) -> None:
        super().__init__(startup_nodes, False, connection_kwargs, dynamic_startup_nodes=False, **other)
        self._named = dict(self.startup_nodes)  # by the URL
        self._learning = asyncio.Lock()

    async def initialize(self, *_: Any, **__: Any) -> None:
        """Learn the topology anew.

        Raises:
            RedisClusterException: no node tells any.
        """
        epoch = self._epoch
        async with self._learning:
            if self._epoch != epoch:
                return
            known = {**self.nodes_cache, **self._named}
            teller = await _teller(list(known.values()))
            self.startup_nodes = {teller.name: teller}
            try:
                await super().initialize()
            finally:
                self.startup_nodes = self._named
            self.default_node = self.nodes_cache.get(teller.name, teller)

    def get_node_from_slot(self, slot: int, *how: Any) -> ClusterNode:
        """Give who has a slot.

        Raises:
            SlotNotCoveredError: nobody, where redis-py has a KeyError.
        """
        if slot not in self.slots_cache:
            raise SlotNotCoveredError(f'Slot "{slot}" is not covered by the cluster.')
        return super().get_node_from_slot(slot, *how)


async def _teller(nodes: list[ClusterNode]) -> ClusterNode:
    """Give the first node that knows who has each slot; the one that knows most where none does."""
    most, best = 0, None
    errors: list[Exception] = []
    asking = [asyncio.create_task(_covered(node)) for node in nodes]
    try:
        for answer in asyncio.as_completed(asking):
            try:
                covered, node = await answer
            except Exception as error:  # noqa: BLE001 - told if no other node knows more
                errors.append(error)
                continue
            if covered > most:
                most, best = covered, node
            if most == REDIS_CLUSTER_HASH_SLOTS:
                break
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    if best is None:
        reason = most_telling(errors)
        raise RedisClusterException(f"no node of the Cluster tells who has which slots: {reason}") from reason
    return best


async def _covered(node: ClusterNode) -> tuple[int, ClusterNode]:
    ranges = await node.execute_command("CLUSTER SLOTS")
    return sum(last - first + 1 for first, last, *_ in ranges), node

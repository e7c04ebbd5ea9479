"""Counters against a model of them: whatever is hit and refunded in whatever order, they count and end alike."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_store import rate_limits
from shared_store.rate_limits import Counter
from shared_store.store import Store
from shared_store.testing.deployments import Deployment

WINDOW = 1000.0  # seconds: nothing ends while the test runs, but when it lets time pass
COUNTERS = (
    Counter("plain", ("a",), count=3, window=WINDOW),
    Counter("plain", ("b",), count=3, window=WINDOW),
    Counter("extended", ("a",), count=3, window=WINDOW, extend_window=True),
)
STEPS = st.tuples(st.sampled_from(["hit", "refund", "wait"]), st.sets(st.integers(0, 2), min_size=1))


@dataclass
class Model:
    """What the counters should hold: hits, and when each ends."""

    now: float = 0.0
    hits: dict[int, int] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)

    def hit(self, index: int) -> int:
        if index not in self.hits or COUNTERS[index].extend_window:
            self.ends[index] = self.now + WINDOW
        self.hits[index] = self.hits.get(index, 0) + 1
        return self.hits[index]

    def refund(self, index: int) -> None:
        left = self.hits.pop(index, 0) - 1
        if left > 0:
            self.hits[index] = left

    def wait(self) -> None:
        self.now += 400.0
        self.hits = {index: hits for index, hits in self.hits.items() if self.ends[index] > self.now}


async def check(where: Deployment, steps: list[tuple[str, set[int]]]) -> None:
    model = Model()
    async with Store(where.url, where.options) as store:
        for counter in COUNTERS:
            await store.client.delete(counter.key)
        for kind, chosen in steps:
            counters = [COUNTERS[index] for index in sorted(chosen)]
            if kind == "hit":
                counts = await store.run(rate_limits.hit(counters))
                assert [count.hits for count in counts] == [model.hit(index) for index in sorted(chosen)]
                assert [count.exceeded for count in counts] == [count.hits > 3 for count in counts]
            elif kind == "refund":
                await store.run(rate_limits.refund([counter.key for counter in counters]))
                for index in chosen:
                    model.refund(index)
            else:
                model.wait()
                for counter in COUNTERS:  # 400 s pass
                    left = await store.client.pttl(counter.key)
                    if left > 0:
                        await store.client.pexpire(counter.key, max(left - 400_000, 0))
            looked = await store.run(rate_limits.look(COUNTERS))
            assert [count.hits for count in looked] == [model.hits.get(index, 0) for index in range(3)]
            for index in model.hits:
                seconds = await store.client.pttl(COUNTERS[index].key) / 1000
                assert abs(seconds - (model.ends[index] - model.now)) < 60  # a slow machine's time, not a window


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=25))
def test_counters_count_and_end_as_their_model_does(any_server: Deployment, steps: list[tuple[str, set[int]]]) -> None:
    asyncio.run(check(any_server, steps))

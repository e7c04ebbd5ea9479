"""The composition root: from settings to what looks after the keys; the only place that knows every class."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from key_rotator.keeper import KeyKeeper
from key_rotator.keygen import KeyMaker
from key_rotator.metrics import Metrics
from key_rotator.rotator import Rotator
from key_rotator.settings import SERVICE, Settings
from service_kit.internal_port import Check
from shared_store.examination import Examination
from shared_store.key_sets import KeySets
from shared_store.locks import Locks
from shared_store.notices import Notices
from shared_store.sealing import Sealer
from shared_store.store import Store


@dataclass(frozen=True, slots=True)
class Service:
    """What runs beside the internal port, as readiness and metrics see it."""

    checks: Sequence[Check]
    doctor: Callable[[], Mapping[str, object]]
    registry: CollectorRegistry


@contextlib.asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Service]:
    """Look after the keys in background tasks while the block runs; one that ends takes the service down."""
    metrics = Metrics(CollectorRegistry())
    async with Store.of(settings, client_name=SERVICE) as store:
        notices = Notices(store)
        keeper = open_keeper(settings, store, notices, actor=f"{SERVICE} {os.getpid()}@{socket.gethostname()}")
        rotator = Rotator(keeper, algs=settings.signing_algs, metrics=metrics)

        examination = Examination(store, SERVICE)

        async def keys() -> None:
            rotator.check_ready()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (notices.run(), rotator.run(notices), examination.run())]
            try:
                checks = (Check("redis", store.check_ready), Check("signing_keys", keys))
                yield Service(checks, examination.summary, metrics.registry)
            finally:
                for task in tasks:
                    task.cancel()


def open_keeper(settings: Settings, store: Store, notices: Notices, *, actor: str) -> KeyKeeper:
    """Put together what reads and changes key sets; `actor` is who the log of key events names."""
    return KeyKeeper(
        store=store,
        key_sets=KeySets(Sealer([secret.get_secret_value() for secret in settings.key_encryption_key])),
        locks=Locks(store, notices),
        maker=KeyMaker(rsa_bits=settings.rsa_modulus_bits, rsa_command=settings.generate_rsa_command),
        policy=settings.policy,
        actor=actor,
    )

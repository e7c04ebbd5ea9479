"""Asks each service's internal /readyz whether it can do its job."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import structlog

from portier_broker.ports import LOOPBACK

log = structlog.get_logger(__name__)

_POLL = 0.05  # seconds
_TELL_EVERY = 5.0
_REQUEST_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Who is not ready, and why."""

    missing: Mapping[str, str]

    @property
    def complete(self) -> bool:
        return not self.missing


async def look(client: httpx.AsyncClient, ports: Mapping[str, int]) -> Readiness:
    """Ask every service once, all at the same time; `ports` are their internal ones."""
    answers = await asyncio.gather(*(_reason(client, port) for port in ports.values()))
    return Readiness({name: reason for name, reason in zip(ports, answers, strict=True) if reason})


async def _reason(client: httpx.AsyncClient, port: int) -> str:
    try:
        answer = await client.get(f"http://{LOOPBACK}:{port}/readyz")
    except httpx.TransportError as error:
        return f"does not answer ({type(error).__name__})"
    return "" if answer.status_code == 200 else " ".join(answer.text.split())[:500] or str(answer.status_code)


async def wait_until_ready(ports: Mapping[str, int], *, tell_every: float = _TELL_EVERY) -> None:
    """Return once all are ready; tell every few seconds what is missing.

    Not bounded by itself: a service that waits for its Redis is told about, not ended. The caller's stop bounds it.
    """
    loop = asyncio.get_running_loop()
    tell_at = loop.time() + tell_every
    async with httpx.AsyncClient(trust_env=False, timeout=_REQUEST_TIMEOUT) as client:
        while not (readiness := await look(client, ports)).complete:
            if loop.time() >= tell_at:
                log.warning("not_ready_yet", **readiness.missing)
                tell_at = loop.time() + tell_every
            await asyncio.sleep(_POLL)

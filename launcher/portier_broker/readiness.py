"""Finds out whether the broker can do its job: its port is open, and each service's internal /readyz says yes."""

import asyncio
from collections.abc import Mapping

import httpx
import structlog

from portier_broker.services import Addresses

log = structlog.get_logger(__name__)

_POLL = 0.05  # seconds
_TELL_EVERY = 5.0
_REQUEST_TIMEOUT = 3.0


async def missing(client: httpx.AsyncClient, addresses: Addresses) -> Mapping[str, str]:
    """Who is not ready, and why. All are asked at the same time."""
    async with asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(_ask(client, *place)) for name, place in addresses.internal.items()}
        if addresses.listening is not None:
            asked["port"] = tasks.create_task(_connect(*addresses.listening))
    return {name: reason for name, task in asked.items() if (reason := task.result())}


async def _ask(client: httpx.AsyncClient, host: str, port: int) -> str:
    try:
        answer = await client.get(httpx.URL(scheme="http", host=host, port=port, path="/readyz"))
    except httpx.TransportError as error:
        return f"does not answer ({type(error).__name__})"
    return "" if answer.status_code == 200 else " ".join(answer.text.split())[:500] or str(answer.status_code)


async def _connect(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return f"{host} port {port} is not open ({type(error).__name__})"
    writer.close()
    return ""


async def wait_until_ready(addresses: Addresses, *, tell_every: float = _TELL_EVERY) -> None:
    """Return once all are ready; tell every few seconds what is missing.

    Without a bound of its own: services that wait for their Redis are told about, not ended, and may yet become ready.
    The launcher's stop bounds it.
    """
    loop = asyncio.get_running_loop()
    tell_at = loop.time() + tell_every
    async with httpx.AsyncClient(trust_env=False, timeout=_REQUEST_TIMEOUT) as client:
        while reasons := await missing(client, addresses):
            if loop.time() >= tell_at:
                log.warning("not_ready_yet", waiting_for=reasons)
                tell_at = loop.time() + tell_every
            await asyncio.sleep(_POLL)

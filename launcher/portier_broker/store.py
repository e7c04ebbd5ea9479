"""Which store the services use: the one that is configured, or an embedded one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from portier_broker.embedded import (
    StorePlace,
    answers,
    default_state_dir,
    persistent_store,
    place_in,
    server_binary,
    throwaway_store,
)
from portier_broker.guard import Guard
from portier_broker.services import Environment, with_settings
from portier_broker.settings import LauncherSettings
from portier_broker.supervisor import Supervisor


def state_dir(settings: LauncherSettings) -> Path:
    """Where a persistent embedded store is."""
    return settings.state_dir or default_state_dir()


@asynccontextmanager
async def environment_with_store(
    settings: LauncherSettings, environment: Environment, *, supervisor: Supervisor, guard: Guard
) -> AsyncIterator[Environment]:
    """Run the embedded store, where one is needed, while the block runs; yields the environment that names the store.

    Raises: StateDirectoryBusyError, StoreUnavailableError.
    """
    if settings.redis_url is not None:
        yield environment
        return
    server_binary()
    store = (
        throwaway_store(supervisor, guard=guard)
        if settings.memory_storage
        else persistent_store(supervisor, place_in(state_dir(settings)))
    )
    async with store as place:
        yield with_settings(environment, redis_url=place.url)


async def store_in_use(settings: LauncherSettings) -> StorePlace | None:
    """The embedded store of a broker that runs already, whose keys a command can get at meanwhile."""
    if settings.redis_url is not None or settings.memory_storage:
        return None
    place = place_in(state_dir(settings))
    return place if await answers(place) else None


def environment_for_check(settings: LauncherSettings, environment: Environment) -> Environment:
    """The environment as the services would get it, without a store being started."""
    if settings.redis_url is not None:
        return environment
    directory = "(a throw-away directory)" if settings.memory_storage else state_dir(settings).absolute()
    return with_settings(environment, redis_url=f"unix://{quote(f'{directory}/valkey.sock')}")

"""What the launcher does besides running: it hands on to the services' own commands."""

import asyncio
import os
import sys

from portier_broker.command_line import Options
from portier_broker.guard import start_guard
from portier_broker.services import COMMANDS, Commands, Environment, with_settings
from portier_broker.settings import LauncherSettings
from portier_broker.store import environment_for_check, environment_with_store, store_in_use
from portier_broker.supervisor import Supervisor
from service_kit.settings import AUTH_API, KEY_ROTATOR, Loaded, describe


async def check(options: Options, loaded: Loaded[LauncherSettings], *, commands: Commands = COMMANDS) -> int:
    """Print the launcher's and each service's effective settings; the worst of their exit codes."""
    environment = environment_for_check(loaded.settings, os.environ)
    _print(f"# portier-broker\n{describe(loaded)}")
    worst = 0
    for name, command in commands.items():
        _print(f"\n# {name}")
        worst = max(worst, await _call(environment, *command, "run", *_positional(options), "--check"))
    return worst


async def call_with_store(options: Options, loaded: Loaded[LauncherSettings], *, commands: Commands = COMMANDS) -> int:
    """Call a service's command against the store that the broker would use; its exit code."""
    config = () if options.config is None else ("--config", options.config)
    if options.call:
        service, name, *rest = options.call
        command = (*commands[service], name, *config, *rest)
    elif options.doctor:
        command = (*commands[AUTH_API], "doctor", "--all", *(["--json"] * options.json), *config)
    else:
        command = (*commands[KEY_ROTATOR], *_keys_arguments(options), *config)
    if place := await store_in_use(loaded.settings):
        return await _call(with_settings(os.environ, redis_url=place.url), *command)
    async with start_guard() as guard:
        supervisor = Supervisor(guard=guard)
        async with environment_with_store(
            loaded.settings, os.environ, supervisor=supervisor, guard=guard
        ) as environment:
            return await _call(environment, *command)


def _keys_arguments(options: Options) -> list[str]:
    dry_run, force = ["--dry-run"] * options.dry_run, ["--force"] * options.force
    if options.migrate_from is not None:
        return ["import", "--from-redis", options.migrate_from, *dry_run]
    if options.import_keys is not None:
        return ["import", options.import_keys, *dry_run, *force]
    return ["export", str(options.export_keys), *force]


def _positional(options: Options) -> list[str]:
    return [options.config] if options.config else []


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()  # what a child prints comes after


async def _call(environment: Environment, *command: str) -> int:
    """Run a command that shares our standard input and output; a shell's exit code for one that a signal ended."""
    process = await asyncio.create_subprocess_exec(*command, env=dict(environment))
    try:
        returncode = await process.wait()
    except asyncio.CancelledError:  # Ctrl-C, which it got as well
        await process.wait()
        raise
    return returncode if returncode >= 0 else 128 - returncode

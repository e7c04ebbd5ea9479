"""Runs everything: the store, then the services, and for the demo what stands beside them; ends it in reverse."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from portier_broker.command_line import Options
from portier_broker.demo import beside_the_broker, demo_environment, open_in_browser, open_sockets, tell_moved_ports
from portier_broker.guard import start_guard
from portier_broker.readiness import wait_until_ready
from portier_broker.services import COMMANDS, Addresses, Commands, Environment, find_addresses, service_specs
from portier_broker.settings import LauncherSettings, load_settings
from portier_broker.store import environment_with_store
from portier_broker.supervisor import RestartPolicy, Supervisor
from service_kit import systemd
from service_kit.settings import Loaded
from service_kit.stopping import Stop

log = structlog.get_logger(__name__)

DRAIN = RestartPolicy().grace * 2 + 5  # the services' time to stop, then the store's, then ours


@dataclass(frozen=True, slots=True)
class Running:
    """What is told once all is ready."""

    urls: Mapping[str, str]
    pids: Mapping[str, int]
    internal: Mapping[str, str]


async def launch(
    options: Options, loaded: Loaded[LauncherSettings], stop: Stop, *, commands: Commands = COMMANDS
) -> None:
    """Run until asked to stop. Raises: LauncherError, or groups of them."""
    environment: Environment = os.environ
    async with AsyncExitStack() as stack:
        beside = None
        if options.demo is not None:
            sockets = open_sockets(options.demo)
            stack.callback(sockets.close)
            environment = demo_environment(options.demo, loaded, sockets)
            loaded = load_settings(options.config, environment)
            tell_moved_ports(options.demo, sockets, broker_port=loaded.settings.listen_port)
            beside = beside_the_broker(sockets, issuer=str(loaded.settings.public_url))
        addresses = find_addresses(loaded, environment)
        urls = {"broker": addresses.public}
        guard = await stack.enter_async_context(start_guard())
        supervisor = Supervisor(guard=guard)
        environment = await stack.enter_async_context(
            environment_with_store(loaded.settings, environment, supervisor=supervisor, guard=guard)
        )
        if beside is not None:
            urls |= await stack.enter_async_context(beside)
        specs = service_specs(
            environment,
            addresses,
            config=options.config,
            log_format=loaded.settings.log_format,
            commands=commands,
        )
        await stack.enter_async_context(supervisor.running(*specs))
        await _announce_and_wait(options, addresses, urls, supervisor, stop)


async def _announce_and_wait(
    options: Options, addresses: Addresses, urls: Mapping[str, str], supervisor: Supervisor, stop: Stop
) -> None:
    async with asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(_announce(options, addresses, urls, supervisor))
        await stop.wait()
        announcing.cancel()


async def _announce(options: Options, addresses: Addresses, urls: Mapping[str, str], supervisor: Supervisor) -> None:
    await wait_until_ready(addresses)
    log.info("ready", **urls)
    _tell(urls)
    if options.ready_file is not None:
        internal = {name: f"http://{_bracketed(host)}:{port}" for name, (host, port) in addresses.internal.items()}
        pids = {"portier-broker": os.getpid(), **supervisor.pids}
        _write_ready_file(options.ready_file, Running(urls=urls, pids=pids, internal=internal))
    systemd.notify("READY=1")
    if options.demo is not None and options.demo.open_browser:
        await open_in_browser(urls["demo_site"])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tell(urls: Mapping[str, str]) -> None:
    lines = ["", f"The broker is ready: {urls['broker']}"]
    if "demo_site" in urls:
        lines += [
            f"  log in here:         {urls['demo_site']}",
            f"  the mail comes here: {urls['inbox']}",
            "Ctrl-C ends it all. For development only: whoever opens the inbox can log in as anyone.",
        ]
    sys.stdout.write("\n".join([*lines, "", ""]))
    sys.stdout.flush()


def _write_ready_file(file: Path, running: Running) -> None:
    """Whole or not at all, for whoever waits for it."""
    content = json.dumps({"urls": dict(running.urls), "pids": dict(running.pids), "internal": dict(running.internal)})
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(content, encoding="utf-8")
    draft.replace(file)

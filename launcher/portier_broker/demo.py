"""The demo: an inbox and a site beside the broker, and settings that make a login work out of the box."""

import asyncio
import os
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from portier_broker.command_line import Demo
from portier_broker.demo_site import running_demo_site
from portier_broker.inbox import running_inbox
from portier_broker.ports import free_port, listening_socket, port_of
from portier_broker.services import Environment, with_settings
from portier_broker.settings import LauncherSettings
from service_kit.settings import DEFAULT, Loaded

_FROM = "noreply@demo.test"


@dataclass(frozen=True, slots=True)
class DemoSockets:
    """The open sockets of what runs beside the broker, so that nobody takes their ports meanwhile."""

    smtp: socket.socket
    inbox: socket.socket
    site: socket.socket

    def close(self) -> None:
        """Give the ports back."""
        for listener in (self.smtp, self.inbox, self.site):
            listener.close()


def open_sockets(demo: Demo) -> DemoSockets:
    """Take the ports. Raises: LauncherError when none is free."""
    return DemoSockets(
        smtp=listening_socket(demo.inbox_smtp_port),
        inbox=listening_socket(demo.inbox_port),
        site=listening_socket(demo.site_port),
    )


def demo_environment(
    demo: Demo, loaded: Loaded[LauncherSettings], sockets: DemoSockets, environment: Environment = os.environ
) -> dict[str, str]:
    """The environment with the demo's settings in it. Mail always goes to the inbox; what else is set stays."""

    def unset(*names: str) -> bool:
        return all(loaded.sources.get(name, DEFAULT) == DEFAULT for name in names)

    settings = {
        "smtp_server": f"127.0.0.1:{port_of(sockets.smtp)}",
        "smtp_security": "off",
        "smtp_username": "",
        "smtp_password": "",
        "mail_transports": "smtp",
    }
    port = loaded.settings.listen_port
    if demo.broker_port is not None or unset("listen_port"):
        port = free_port(loaded.settings.listen_port if demo.broker_port is None else demo.broker_port)
        settings["listen_port"] = str(port)
    if unset("public_url"):
        settings["public_url"] = f"http://localhost:{port}"
    if unset("from_address"):
        settings["from_address"] = _FROM
    if unset("redis_url", "memory_storage", "state_dir"):
        settings["memory_storage"] = "true"
    return with_settings(environment, **settings)


@asynccontextmanager
async def beside_the_broker(sockets: DemoSockets, *, issuer: str) -> AsyncIterator[dict[str, str]]:
    """Run inbox and site while the block runs; yields their addresses."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running_inbox(smtp=sockets.smtp, web=sockets.inbox))
        site = await stack.enter_async_context(running_demo_site(sockets.site, issuer=issuer))
        yield {
            "demo_site": site,
            "inbox": f"http://localhost:{port_of(sockets.inbox)}",
            "inbox_smtp": f"smtp://127.0.0.1:{port_of(sockets.smtp)}",
        }


def tell_moved_ports(demo: Demo, sockets: DemoSockets, *, broker_port: int) -> None:
    """Say which ports are not the usual ones because those were taken."""
    for what, wanted, got in (
        ("broker", 3333 if demo.broker_port is None else demo.broker_port, broker_port),
        ("inbox", demo.inbox_port, port_of(sockets.inbox)),
        ("demo site", demo.site_port, port_of(sockets.site)),
    ):
        if wanted not in (0, got):
            sys.stdout.write(f"Port {wanted} is taken: the {what} uses {got}.\n")


async def open_in_browser(url: str) -> None:
    """Open the page where there is someone to see it."""
    if sys.stdout.isatty():
        await asyncio.to_thread(webbrowser.open, url)

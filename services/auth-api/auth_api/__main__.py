"""`auth-api [run] [CONFIG]`."""

import sys

import structlog

from auth_api.commands import add_commands
from auth_api.composition import build
from auth_api.server import open_listener, serving
from auth_api.settings import SERVICE, Settings
from service_kit import systemd
from service_kit.cli import Cli
from service_kit.internal_port import InternalPort
from service_kit.settings import Loaded
from service_kit.stopping import Stop

log = structlog.get_logger(__name__)


async def serve(loaded: Loaded[Settings], stop: Stop) -> None:
    """Serve until asked to stop."""
    settings = loaded.settings
    listener = open_listener(settings.listen_ip, settings.listen_port)
    async with build(settings) as service:
        port = InternalPort.of(
            settings, registry=service.registry, checks=service.checks, doctor=service.doctor, stop=stop
        )
        async with port, serving(service.app, listener, count_connection=service.count_connection):
            log.info("listening", address=settings.listen_ip, port=settings.listen_port, public_url=settings.public_url)
            systemd.notify("READY=1")
            await stop.wait()


def main() -> int:
    """Run the command line."""
    cli = Cli(SERVICE, Settings, serve, about="The HTTP face of Portier Broker")
    add_commands(cli)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())

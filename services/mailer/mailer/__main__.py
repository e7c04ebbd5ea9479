"""`mailer [run] [CONFIG]`, and the commands to look into it."""

import sys

import structlog

from mailer.composition import build
from mailer.settings import SERVICE, Settings
from service_kit import systemd
from service_kit.cli import Cli
from service_kit.internal_port import InternalPort
from service_kit.settings import Loaded
from service_kit.stopping import Stop

log = structlog.get_logger(__name__)


async def serve(loaded: Loaded[Settings], stop: Stop) -> None:
    """Send mails until asked to stop."""
    for warning in loaded.warnings:
        log.warning("configuration", warning=warning)
    async with build(loaded.settings) as mailer:
        port = InternalPort.of(loaded.settings, registry=mailer.registry, checks=mailer.checks, stop=stop)
        async with port:
            systemd.notify("READY=1")
            await mailer.run(stop)


def main() -> int:
    """Run the command line."""
    return Cli(SERVICE, Settings, serve, about="Sends the mails that logins ask for").main()


if __name__ == "__main__":
    sys.exit(main())

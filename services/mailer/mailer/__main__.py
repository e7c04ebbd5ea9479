"""`mailer [run] [CONFIG]`, and the commands of `commands`."""

from __future__ import annotations

import gc
import sys

import structlog

from mailer.commands import add_commands
from mailer.composition import build
from mailer.queue_commands import add_queue_commands
from mailer.settings import SERVICE, Settings
from mailer.suppression_commands import add_suppression_commands
from service_kit import systemd
from service_kit.cli import Cli
from service_kit.internal_port import InternalPort
from service_kit.settings import Loaded
from service_kit.stopping import Stop

log = structlog.stdlib.get_logger()


async def serve(loaded: Loaded[Settings], stop: Stop) -> None:
    """Send mail until asked to stop."""
    settings = loaded.settings
    async with (
        build(settings) as service,
        InternalPort.of(settings, registry=service.registry, checks=service.checks, doctor=service.doctor, stop=stop),
    ):
        gc.collect()
        gc.freeze()  # what is there now stays: no need to look at it again and again
        log.info("mailer_started", transports=settings.transports, concurrency=settings.mail_concurrency)
        systemd.notify("READY=1")
        await service.run(stop)


def main() -> int:
    """Run the command line."""
    cli = Cli(SERVICE, Settings, serve, about="Takes login mails from the queue and delivers them")
    add_queue_commands(cli)
    add_commands(cli)
    add_suppression_commands(cli)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())

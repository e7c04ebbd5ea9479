"""`key-rotator [run] [CONFIG]`, and the commands of `commands`."""

from __future__ import annotations

import sys

import structlog
from prometheus_client import CollectorRegistry

from key_rotator.commands import add_commands, ids_behind_options
from key_rotator.composition import build
from key_rotator.settings import SERVICE, Settings
from service_kit import systemd
from service_kit.cli import Cli
from service_kit.internal_port import InternalPort
from service_kit.settings import Loaded
from service_kit.stopping import Stop

log = structlog.get_logger(__name__)


async def serve(loaded: Loaded[Settings], stop: Stop) -> None:
    """Look after the keys until asked to stop."""
    settings = loaded.settings
    if settings.has_manual_keys:
        await _stand_idle(settings, stop)
        return
    async with (
        build(settings) as service,
        InternalPort.of(settings, registry=service.registry, checks=service.checks, doctor=service.doctor, stop=stop),
    ):
        systemd.notify("READY=1")
        await stop.wait()


async def _stand_idle(settings: Settings, stop: Stop) -> None:
    log.info("keys_are_manual", hint="auth-api reads keyfiles and keytext itself; there is nothing to rotate")
    async with InternalPort.of(settings, registry=CollectorRegistry(), stop=stop):
        systemd.notify("READY=1")
        await stop.wait()


def main() -> int:
    """Run the command line."""
    cli = Cli(SERVICE, Settings, serve, about="Makes, rotates and retires signing keys")
    add_commands(cli)
    return cli.main(ids_behind_options(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())

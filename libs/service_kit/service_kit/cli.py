"""The command line all services share: `SERVICE [run] [CONFIG] [--check] [--debug]`, and commands of their own.

The configuration is named in one way everywhere: `--config CONFIG`, or CONFIG alone where a command takes nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from service_kit.errors import ConfigurationError, ServiceKitError
from service_kit.logs import configure_logging
from service_kit.settings import CommonSettings, Loaded, describe, load
from service_kit.spans import exporting
from service_kit.stopping import Stop, run

if TYPE_CHECKING:
    from collections.abc import Sequence

log = structlog.stdlib.get_logger()

S = TypeVar("S", bound=CommonSettings)
C = TypeVar("C", bound=CommonSettings)

Serve = Callable[[Loaded[S], Stop], Awaitable[None]]
Command = Callable[[Loaded[S], argparse.Namespace], Awaitable[int]]

BAD_CONFIGURATION = 2

_CONFIG_HELP = "TOML file with settings"


class Cli(Generic[S]):
    """A service's command line; `serve` is what `run` runs until it is asked to stop."""

    def __init__(self, service: str, settings_class: type[S], serve: Serve[S], *, about: str = "") -> None:
        self._service = service
        self._settings_class = settings_class
        self._serve = serve
        self._commands: dict[str, Callable[[argparse.Namespace], int]] = {}
        self._parser = argparse.ArgumentParser(
            prog=service,
            usage=f"{service} [run] [CONFIG] [--check] [--debug]\n       {service} COMMAND [--config CONFIG] …",
            description=about or None,
            epilog=f"CONFIG is a TOML file with settings; BROKER_* variables win. `{service} --check CONFIG` prints "
            f"the effective settings and where each is from. `{service} COMMAND --help` tells what a command takes.",
        )
        self._parser.add_argument("--version", action="version", version=f"%(prog)s {version(service)}")
        self._subparsers = self._parser.add_subparsers(dest="command", metavar="COMMAND", prog=service)
        running = self._subparsers.add_parser("run", help="serve until told to stop (the default)")
        running.add_argument("--config", metavar="CONFIG", help=_CONFIG_HELP)
        running.add_argument("--check", action="store_true", help="print the effective settings and where each is from")
        running.add_argument("--debug", action="store_true", help="log everything, readable for people")

    def add_command(self, name: str, command: Command[S], *, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """Add a command; the parser that comes back takes its arguments. It has --config already."""
        return self.add_command_reading(self._settings_class, name, command, help=help)

    def add_command_reading(
        self,
        settings_class: type[C],
        name: str,
        command: Command[C],
        *,
        help: str,  # noqa: A002
    ) -> argparse.ArgumentParser:
        """Add a command that can do without some of the service's settings: those need not be there, nor be right."""
        parser = self._subparsers.add_parser(name, help=help, description=help)
        parser.add_argument("--config", metavar="CONFIG", help=_CONFIG_HELP)

        def perform(arguments: argparse.Namespace) -> int:
            loaded = load(settings_class, service=self._service, config_path=arguments.config)
            self._log_as_configured(loaded)
            return asyncio.run(_in_loop(command, loaded, arguments))

        self._commands[name] = perform
        return parser

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Do what the arguments say; the exit code: 0 fine, 1 failed, 2 wrong arguments or configuration."""
        return while_somebody_reads(lambda: self._main(argv))

    def _main(self, argv: Sequence[str] | None) -> int:
        for parser in self._subparsers.choices.values():
            _accept_config_alone(parser)
        arguments = self._parser.parse_args(self._with_default(sys.argv[1:] if argv is None else list(argv)))
        try:
            if arguments.command != "run":
                return self._commands[arguments.command](arguments)
            loaded = load(self._settings_class, service=self._service, config_path=arguments.config)
            return self._run(loaded, arguments)
        except ConfigurationError as error:
            print(f"{self._service}: {error}", file=sys.stderr)
            return BAD_CONFIGURATION
        except ServiceKitError as error:
            print(f"{self._service}: {error}", file=sys.stderr)
            return 1

    def _with_default(self, argv: list[str]) -> list[str]:
        """The arguments with `run` put in front where no command is named."""
        if argv and (argv[0] in ("-h", "--help", "--version", "run") or argv[0] in self._commands):
            return argv
        return ["run", *argv]

    def _run(self, loaded: Loaded[S], arguments: argparse.Namespace) -> int:
        if arguments.check:
            print(describe(loaded))
            return 0
        if arguments.debug:
            configure_logging(service=self._service, level="debug", format="console")
            _log_warnings(loaded)
        else:
            self._log_as_configured(loaded)

        async def serve(stop: Stop) -> None:
            await self._serve(loaded, stop)

        with exporting(self._service):
            return run(serve)

    def _log_as_configured(self, loaded: Loaded[CommonSettings]) -> None:
        settings = loaded.settings
        configure_logging(service=self._service, level=settings.log_level, format=settings.log_format)
        _log_warnings(loaded)


async def _in_loop(command: Command[C], loaded: Loaded[C], arguments: argparse.Namespace) -> int:
    return await command(loaded, arguments)


def accept_config(parser: argparse.ArgumentParser) -> None:
    """Let --config stand behind a command's verb as well as before it; what is not given leaves what was."""
    parser.add_argument("--config", default=argparse.SUPPRESS, metavar="CONFIG", help=_CONFIG_HELP)


def _accept_config_alone(parser: argparse.ArgumentParser) -> None:
    """Let CONFIG stand without --config where it can't be taken for anything else."""
    if parser._get_positional_actions():  # noqa: SLF001  argparse tells it nowhere else
        return
    # No `type`: argparse would make a value of SUPPRESS, which is what keeps this from undoing --config.
    parser.add_argument(
        "config", nargs="?", default=argparse.SUPPRESS, metavar="CONFIG", help="the same without --config"
    )


def while_somebody_reads(work: Callable[[], int]) -> int:
    """Do something that prints and gives an exit code; 1 where who reads our output, such as `head`, went away."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _log_warnings(loaded: Loaded[CommonSettings]) -> None:
    for warning in loaded.warnings:
        log.warning("configuration_warning", warning=warning)

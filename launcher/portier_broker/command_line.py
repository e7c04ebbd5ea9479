"""The command line: `portier-broker [CONFIG]` as the old broker had it, `portier-broker demo` and others."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Demo:
    """What only the demo has. A port is the wanted one; the next free one is taken, and 0 means any."""

    open_browser: bool
    broker_port: int | None
    inbox_port: int
    inbox_smtp_port: int
    site_port: int


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for: at most one of `check`, the three about keys, `doctor`, `call` and `demo`; none means run."""

    config: str | None = None
    ready_file: Path | None = None
    check: bool = False
    import_keys: str | None = None
    dry_run: bool = False
    export_keys: str | None = None
    force: bool = False
    migrate_from: str | None = None
    doctor: bool = False
    json: bool = False
    call: tuple[str, ...] = ()  # a service, its command and what follows
    demo: Demo | None = None

    @property
    def needs_only_the_store(self) -> bool:
        """Whether a service's command is to run against the store, instead of the broker."""
        about_keys = (self.import_keys, self.export_keys, self.migrate_from)
        return self.doctor or bool(self.call) or any(asked is not None for asked in about_keys)


def parse(argv: Sequence[str]) -> Options:
    """Read the arguments; ends the process for --help, --version and mistakes, as argparse does."""
    commands = {"call": _parse_call, "demo": _parse_demo, "doctor": _parse_doctor, "migrate": _parse_migrate}
    if argv and argv[0] in commands:
        return commands[argv[0]](argv[1:])
    return _parse_main(argv)


def _parse_main(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="portier-broker",
        description="Run the broker: auth-api, mailer, key-rotator, and an embedded Valkey where no Redis is named.",
        epilog="`portier-broker demo` adds a development inbox and a demo site; `portier-broker migrate` takes over "
        "the signing keys of a Rust Portier Broker; `portier-broker doctor` examines Redis; `portier-broker call` "
        "runs a service's own command. Each has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"Portier Broker {version('portier-broker')}")
    _add_common(parser)
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--check", action="store_true", help="print each service's effective settings, and end")
    actions.add_argument("--import-keys", metavar="FILE", help="import signing keys as PEM; - is standard input")
    actions.add_argument("--export-keys", metavar="FILE", help="export the signing keys as PEM; - is standard output")
    parser.add_argument("--dry-run", action="store_true", help="with --import-keys: write nothing")
    parser.add_argument("--force", action="store_true", help="replace the file, or keys in Redis that can't be read")
    options = parser.parse_args(argv)
    if options.dry_run and options.import_keys is None:
        parser.error("--dry-run goes with --import-keys")
    if options.force and options.export_keys is None and options.import_keys is None:
        parser.error("--force goes with --export-keys or --import-keys")
    return Options(**vars(options))


def _parse_demo(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="portier-broker demo",
        description="Run the broker with an inbox for all its mail and a site to log in to. For development only.",
    )
    _add_common(parser)
    parser.add_argument("--no-open", action="store_true", help="do not open the demo site in a browser")
    for name, wanted, what in (
        ("--broker-port", None, "broker (3333)"),
        ("--inbox-port", 3380, "inbox (3380)"),
        ("--inbox-smtp-port", 0, "inbox's mail server (any)"),
        ("--site-port", 3381, "demo site (3381)"),
    ):
        help_ = f"port of the {what}, or the next free one; 0 = any"
        parser.add_argument(name, type=_port, default=wanted, metavar="PORT", help=help_)
    options = parser.parse_args(argv)
    return Options(
        config=options.config,
        ready_file=options.ready_file,
        demo=Demo(
            open_browser=not options.no_open,
            broker_port=options.broker_port,
            inbox_port=options.inbox_port,
            inbox_smtp_port=options.inbox_smtp_port,
            site_port=options.site_port,
        ),
    )


def _parse_migrate(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="portier-broker migrate",
        description="Take over the signing keys of a Rust Portier Broker, with their key ids and expiries, from its "
        "Redis while it goes on running. That Redis is only read. See docs/migrating.md.",
    )
    _add_config(parser)
    parser.add_argument(
        "--from", dest="migrate_from", required=True, metavar="URL", help="the other broker's redis_url"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be taken over and write nothing")
    return Options(**vars(parser.parse_args(argv)))


def _parse_doctor(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="portier-broker doctor",
        description="Examine the Redis that the broker uses: what is wrong, why it matters, and what mends it. Ends "
        "with 0 where all is fine, 1 for warnings, 2 for errors. See docs/redis.md.",
    )
    _add_config(parser)
    parser.add_argument("--json", action="store_true", help="for machines")
    return Options(doctor=True, **vars(parser.parse_args(argv)))


def _parse_call(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="portier-broker call",
        description="Run a service's own command against the store that the broker uses, the embedded one as well: "
        "`portier-broker call --config broker.toml mailer queue`.",
    )
    parser.add_argument("--config", metavar="CONFIG", help="TOML file with this broker's settings")
    parser.add_argument("service", choices=("auth-api", "mailer", "key-rotator"), metavar="SERVICE", help="%(choices)s")
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND …",
        help="one of those that `portier-broker call SERVICE --help` shows, and what it takes",
    )
    options = parser.parse_args(argv)
    if not options.command:
        parser.error(f"say which command of {options.service}; `{options.service} --help` shows them")
    return Options(config=options.config, call=(options.service, *options.command))


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="CONFIG", help="TOML file with settings; BROKER_* variables win")
    parser.add_argument(
        "config", nargs="?", default=argparse.SUPPRESS, metavar="CONFIG", help="the same without --config"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="once ready, write addresses and process ids there as JSON"
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to 65535")
    return int(text)

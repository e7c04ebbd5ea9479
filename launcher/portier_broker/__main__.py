"""`portier-broker`, and `python -m portier_broker`."""

import asyncio
import sys
from collections.abc import Iterator, Sequence

from portier_broker.command_line import Options, parse
from portier_broker.commands import call_with_store, check
from portier_broker.errors import LauncherError
from portier_broker.launch import DRAIN, launch
from portier_broker.services import BAD_CONFIGURATION, COMMANDS, Commands
from portier_broker.settings import LauncherSettings, load_settings
from service_kit.cli import while_somebody_reads
from service_kit.errors import ConfigurationError, ServiceKitError
from service_kit.logs import configure_logging
from service_kit.settings import LAUNCHER, Loaded
from service_kit.stopping import Stop, run


def main(argv: Sequence[str] | None = None, *, commands: Commands = COMMANDS) -> int:
    """Do what the arguments say; the exit code: 0 fine, 1 failed, 2 wrong arguments or configuration."""
    options = parse(sys.argv[1:] if argv is None else argv)
    return while_somebody_reads(lambda: _main(options, commands))


def _main(options: Options, commands: Commands) -> int:
    try:
        loaded = load_settings(options.config)
        configure_logging(service=LAUNCHER, level=loaded.settings.log_level, format=loaded.settings.log_format)
        if options.check:
            return asyncio.run(check(options, loaded, commands=commands))
        if options.needs_only_the_store:
            return asyncio.run(call_with_store(options, loaded, commands=commands))
    except ConfigurationError as error:
        _complain(error)
        return BAD_CONFIGURATION
    except (LauncherError, BaseExceptionGroup) as error:
        return _failed(error)
    except KeyboardInterrupt:
        return 130
    return _run(options, loaded, commands)


def _run(options: Options, loaded: Loaded[LauncherSettings], commands: Commands) -> int:
    code = 0

    async def serve(stop: Stop) -> None:
        nonlocal code
        try:
            await launch(options, loaded, stop, commands=commands)
        except (LauncherError, ServiceKitError, BaseExceptionGroup) as error:
            code = _failed(error)

    return run(serve, drain=DRAIN) or code


def _failed(error: BaseException) -> int:
    """Tell what kept us from working; anything not raised on purpose keeps its traceback."""
    causes = list(_leaves(error))
    if not all(isinstance(cause, LauncherError | ServiceKitError) for cause in causes):
        raise error
    for cause in causes:
        _complain(cause)
    return 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _complain(error: BaseException) -> None:
    sys.stderr.write(f"portier-broker: {error}\n")


if __name__ == "__main__":
    sys.exit(main())

"""What can keep the launcher from doing its job. Every message says what happened and what to do about it."""


class LauncherError(Exception):
    """Told to the operator on one line, without a traceback; the launcher ends with exit code 1."""


class StoreUnavailableError(LauncherError):
    """The embedded Valkey cannot run here, or did not come up."""


class StateDirectoryBusyError(LauncherError):
    """Another process holds the state directory."""

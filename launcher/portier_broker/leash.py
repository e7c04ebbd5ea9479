"""Run as a program between the launcher and a child: names itself to the guard, then becomes the child.

Arguments: the guard's file descriptor, then the child's command. A program of its own, not a `preexec_fn`, because
Python code between fork and exec may deadlock as soon as the launcher has a second thread.
"""

import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _ask_for_the_launchers_death() -> None:
    # A second net, should someone kill the guard too. Elsewhere than on Linux (macOS) there is the guard alone.
    import ctypes  # noqa: PLC0415 only where it is used: it doubles the time this program takes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def main() -> None:
    """Register with the guard and exec; never returns."""
    guard, command = int(sys.argv[1]), sys.argv[2:]
    # Closed by exec, not before: the guard sees the launcher's end only after it has read this child's name.
    os.set_inheritable(guard, False)
    with suppress(OSError):
        os.write(guard, b"+%d\n" % os.getpid())
    if sys.platform == "linux":
        _ask_for_the_launchers_death()
    if "LISTEN_FDS" in os.environ:
        os.environ["LISTEN_PID"] = str(os.getpid())  # sd_listen_fds(3): the sockets are for this process
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an ignored signal survives exec
    try:
        os.execvp(command[0], command)  # noqa: S606 no shell is wanted
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()

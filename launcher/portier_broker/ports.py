"""Ports for what the launcher runs: the wanted one, or the next that is free."""

import socket
from collections.abc import Iterator
from contextlib import closing

from portier_broker.errors import LauncherError

LOOPBACK = "127.0.0.1"
_TRIES = 100


def listening_socket(wanted: int) -> socket.socket:
    """A listening loopback socket on `wanted`, or on the next free port after it; 0 means any.

    Raises: LauncherError when a hundred in a row are taken.
    """
    for port in _candidates(wanted):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if not _taken_on_ipv6(port):
                listener.bind((LOOPBACK, port))
                listener.listen()
                listener.setblocking(False)
                return listener
        except OSError:
            pass
        listener.close()
    raise LauncherError(f"no free port from {wanted} to {wanted + _TRIES - 1} on {LOOPBACK}")


def port_of(listener: socket.socket) -> int:
    """The port that a listening socket got."""
    port: int = listener.getsockname()[1]
    return port


def free_port(wanted: int = 0) -> int:
    """A port for a child to listen on: `wanted`, or the next free one. It may be taken before the child takes it."""
    with closing(listening_socket(wanted)) as listener:
        return port_of(listener)


def _candidates(wanted: int) -> Iterator[int]:
    return iter([0] * _TRIES if wanted == 0 else range(wanted, min(wanted + _TRIES, 65536)))


def _taken_on_ipv6(port: int) -> bool:
    # A browser tries ::1 first when it is sent to localhost, and would meet whoever listens there.
    if port == 0 or not socket.has_ipv6:
        return False
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("::1", port)) == 0

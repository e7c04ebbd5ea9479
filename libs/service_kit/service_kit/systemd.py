"""The two things systemd and its like offer a service: a word when it is ready, and a socket that is already open."""

from __future__ import annotations

import os
import socket

FIRST_DESCRIPTOR = 3


def notify(state: str) -> bool:
    """Send a line such as READY=1 to the service manager (sd_notify); tell whether there is one that got it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):  # a name in Linux' abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(1)
            datagrams.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def activated_socket() -> socket.socket | None:
    """The listening socket, TCP or unix, that a service manager passed to this very process, if it did."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    listener.set_inheritable(False)
    return listener

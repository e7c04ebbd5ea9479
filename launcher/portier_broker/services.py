"""The three services as children: their commands, and the environment that makes them fit together on one machine."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from portier_broker.ports import free_port
from portier_broker.settings import LauncherSettings
from portier_broker.supervisor import ChildSpec
from service_kit.logs import Format
from service_kit.settings import AUTH_API, INTERNAL_PORTS, KEY_ROTATOR, MAILER, Loaded
from service_kit.systemd import FIRST_DESCRIPTOR

Commands = Mapping[str, tuple[str, ...]]
Environment = Mapping[str, str]

BAD_CONFIGURATION = 2  # service_kit's Cli ends with it, and would again


def service_command(module: str) -> tuple[str, ...]:
    """What runs a service. -P: a folder of its name where the launcher was started is not what is meant."""
    return (sys.executable, "-P", "-m", module)


COMMANDS: Commands = {
    AUTH_API: service_command("auth_api"),
    MAILER: service_command("mailer"),
    KEY_ROTATOR: service_command("key_rotator"),
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services answer: `public` is the broker's, the others are for the machinery around them."""

    public: str
    listening: tuple[str, int] | None
    """None when the socket came from systemd."""
    internal: Mapping[str, tuple[str, int]]


def with_settings(environment: Environment, **settings: str) -> dict[str, str]:
    """The environment with BROKER_* for these settings, in place of whatever it had for them."""
    changed = dict(environment)
    for name, value in settings.items():
        changed.pop(f"BROKER_{name.upper()}_FILE", None)
        changed[f"BROKER_{name.upper()}"] = value
    return changed


def address_of(ip: str) -> str:
    """Where to reach something that listens on this address, which may be "any"."""
    address = ip_address(ip)
    if not address.is_unspecified:
        return ip
    return "127.0.0.1" if address.version == 4 else "::1"


def internal_ports(loaded: Loaded[LauncherSettings]) -> dict[str, int]:
    """One port for each service.

    All three read the same internal_port, so it is the first one's, and the others take the next two. Unset, it is
    each service's usual one or the next that is free; 0 stands for "none" and becomes any, since we have to ask them.
    """
    wanted = loaded.settings.internal_port
    if wanted:
        return {name: wanted + offset for offset, name in enumerate(COMMANDS)}
    off = "internal_port" in loaded.sources and loaded.sources["internal_port"] != "default"
    ports: dict[str, int] = {}
    for name in COMMANDS:
        port = free_port(0 if off else INTERNAL_PORTS[name])
        while port in ports.values():
            port = free_port(0 if off else port + 1)
        ports[name] = port
    return ports


def find_addresses(loaded: Loaded[LauncherSettings], environment: Environment) -> Addresses:
    """Where the services will answer, given their environment."""
    settings = loaded.settings
    listening = (address_of(settings.listen_ip), settings.listen_port)
    inside = address_of(settings.internal_ip)
    return Addresses(
        public=settings.public_url or "",
        listening=None if _activated(environment) else listening,
        internal={name: (inside, port) for name, port in internal_ports(loaded).items()},
    )


def _activated(environment: Environment) -> int:
    """How many sockets systemd passed to this process."""
    count = environment.get("LISTEN_FDS", "0")
    return int(count) if environment.get("LISTEN_PID") == str(os.getpid()) and count.isdigit() else 0


def service_specs(
    environment: Environment,
    addresses: Addresses,
    *,
    config: str | None,
    log_format: Format,
    commands: Commands = COMMANDS,
) -> tuple[ChildSpec, ...]:
    """The three children. Sockets from systemd go to auth-api, readiness is told by the launcher alone."""
    sockets = _activated(environment)
    inner = {name: value for name, value in environment.items() if name not in _SYSTEMDS}
    if log_format == "auto" and sys.stderr.isatty():
        inner = with_settings(inner, log_format="console")  # they write to us, and only we see the terminal
    specs = []
    for name, command in commands.items():
        own = with_settings(inner, internal_port=str(addresses.internal[name][1]))
        passed = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + sockets) if name == AUTH_API else range(0)
        if passed:
            own["LISTEN_FDS"] = str(sockets)
        specs.append(
            ChildSpec(
                name,
                (*command, "run", *([config] if config else [])),
                own,
                inherited=tuple(passed),
                gives_up_with=frozenset({BAD_CONFIGURATION}),
            )
        )
    return tuple(specs)


_SYSTEMDS = frozenset({"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})

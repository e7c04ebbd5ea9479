"""Who reaches a server, what can be read on the way to it, and who may do what there: see `server_checks`."""

from __future__ import annotations

import ipaddress
import stat
from dataclasses import replace
from pathlib import Path

from shared_store.findings import CONFIG_HIDDEN, ERROR, OK, UNKNOWN, WARNING, Judgement, acl_lines
from shared_store.server_facts import Facts

_USERS = "aclfile /etc/redis/users.acl in redis.conf, made from docker/users.acl"


def network(facts: Facts) -> Judgement:
    """Who reaches the port; a password comes only after that."""
    if facts.url.socket_path is not None:
        return OK, "a unix socket: only this machine reaches it", ""
    bound = facts.settings.get("bind")
    if bound is None:
        return UNKNOWN, CONFIG_HIDDEN, ""
    everywhere = not bound or any(address.lstrip("-") in ("*", "0.0.0.0", "::", "::*") for address in bound.split())  # noqa: S104
    if not everywhere:
        return OK, f"bound to {bound}", ""
    protected = facts.settings.get("protected-mode") == "yes" and facts.open_to_anyone
    if protected:
        return OK, "bound to every address, and protected mode lets in this machine alone", ""
    found = "bound to every address: see that only the broker's services reach the port"
    return WARNING, found, "bind 127.0.0.1 ADDRESS in redis.conf, with the address that only the services reach"


def transport(facts: Facts) -> Judgement:
    """Whether what goes to Redis can be read on the way: addresses, tokens, keys."""
    if facts.url.tls:
        return OK, "TLS", ""
    if is_local(facts):
        return OK, "it does not leave this machine", ""
    tls = f"{replace(facts.url, tls=True).scheme}://"
    mend = f"tls-port, tls-cert-file and tls-key-file in redis.conf, and redis_url = {tls}…"
    return WARNING, "plain TCP over a network", mend


def authentication(facts: Facts) -> Judgement:
    """A second protection beside the network's."""
    if facts.open_to_anyone is None:
        return UNKNOWN, "it could not be tried without a password", ""
    if not facts.open_to_anyone:
        return OK, f"user {facts.url.user}, with a password", ""
    if facts.url.socket_path is not None:
        return OK, "no password; who may open the socket decides", ""
    if facts.url.password:
        found = "redis_url has a password, but Redis lets everyone in without one"
        return WARNING, found, acl_lines({"default": ["off"]})
    return WARNING, "no password", f"{_USERS}, and redis_url = {facts.url.scheme}://SERVICE:PASSWORD@…"


def permissions(facts: Facts) -> Judgement:
    """Whether each service may do what it needs, and no more."""
    if facts.missing_rights is None:
        return UNKNOWN, "what the services may do can't be told: before Redis 7, or no users of their names", ""
    lacking = {who: rights for who, rights in facts.missing_rights.items() if rights}
    if lacking:
        told = [
            f"{service} {'' if user == service else f'as user {user} '}lacks {' '.join(rights)}"
            for (service, user), rights in lacking.items()
        ]
        if any("+eval" in rights for rights in lacking.values()):
            told.append("what else is lacking can be told after that")
        wanted: dict[str, dict[str, None]] = {}
        for (_, user), rights in lacking.items():
            wanted.setdefault(user, {}).update(dict.fromkeys(rights))
        return ERROR, "; ".join(told), acl_lines(wanted)
    if facts.may_do_anything and not is_local(facts):
        return WARNING, "this user may do anything, FLUSHALL included", _USERS
    return OK, "the services may do what they need", ""


def files(facts: Facts) -> Judgement:
    """Who may read the files that Redis writes."""
    directory = facts.settings.get("dir")
    if directory is None or not is_local(facts):
        return UNKNOWN, "its folder can't be seen from here: it should be 0700 and Redis' own", ""
    try:
        mode = stat.S_IMODE(Path(directory).stat().st_mode)
    except OSError:
        return UNKNOWN, f"{directory} can't be seen from here: it should be 0700 and Redis' own", ""
    if mode & 0o077:
        return WARNING, f"{directory} has mode {mode:04o}: others may read what Redis writes", f"chmod 0700 {directory}"
    return OK, f"{directory} has mode {mode:04o}", ""


def is_local(facts: Facts) -> bool:
    """Tell whether what goes to the server stays on this machine."""
    return facts.url.socket_path is not None or all(_is_loopback(host) for host, _ in facts.url.nodes)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"

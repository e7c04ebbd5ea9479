"""Examines the live store: findings for an operator, with what mends them.

What a server tells is `server_facts`, what to think of it `server_checks` and `access_checks`.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from shared_store.access_checks import authentication, permissions
from shared_store.errors import LoginRefused, StoreDenied, StoreError, StoreUnreachable
from shared_store.findings import Finding, Severity, acl_lines
from shared_store.mail_checks import mail_is_served
from shared_store.rights import to_connect
from shared_store.server_checks import CHECKS, judge
from shared_store.server_facts import gather
from shared_store.store import Store

BOUND = 30.0  # seconds for a whole examination

EXIT_CODES = {Severity.OK: 0, Severity.UNKNOWN: 0, Severity.WARNING: 1, Severity.ERROR: 2}
_ORDER = list(EXIT_CODES)  # from good to bad
_SIGNS = {Severity.OK: "ok", Severity.UNKNOWN: "?", Severity.WARNING: "warning", Severity.ERROR: "ERROR"}
_REACHABLE = "without Redis there are no logins"
_AWAY = "the host, the port and redis:// or rediss:// in redis_url; or start the server"


async def examine(store: Store, services: Sequence[str], *, is_careful: bool = False) -> list[Finding]:
    """Examine the server, or each master of a Cluster, for these services; not to reach it is a finding, too.

    Careful is who does so again and again: see `gather`.
    """
    try:
        async with asyncio.timeout(BOUND):
            facts, silent = await gather(store, services, is_careful=is_careful)
            mail = [await mail_is_served(store)] if "mailer" in services and not silent else []
    except (StoreError, TimeoutError) as error:
        return _not_examined(store, error)
    if silent:
        told = f"masters that do not answer: {', '.join(silent)}"
        reached = Finding("reachable", Severity.ERROR, told, _REACHABLE, "redis-cli --cluster check HOST:PORT")
    else:
        reached = _reached(store)
    return [reached, *_together([finding for one in facts for finding in judge(one)]), *mail]


def _not_examined(store: Store, error: StoreError | TimeoutError) -> list[Finding]:
    """Say why a server told nothing: one that refuses us was reached all the same."""
    found = str(error) or f"no answer within {BOUND:.0f} s"
    if isinstance(error, StoreDenied):
        found = f"user {store.url.user} may not even connect: {error.__cause__}"
        mend = acl_lines({store.url.user: to_connect(store.url)})
        return [_reached(store), Finding(permissions.__name__, Severity.ERROR, found, CHECKS[permissions], mend)]
    if isinstance(error, LoginRefused):
        mend = "a user and a password in redis_url that Redis has, in its aclfile or by requirepass"
        return [_reached(store), Finding(authentication.__name__, Severity.ERROR, found, _REACHABLE, mend)]
    mend = _AWAY if isinstance(error, StoreUnreachable | TimeoutError) else "what was found names it"
    return [Finding("reachable", Severity.ERROR, found, _REACHABLE, mend)]


def _reached(store: Store) -> Finding:
    return Finding("reachable", Severity.OK, f"{store.url} answers", _REACHABLE)


async def report(open_store: Callable[[], Store], *, services: Sequence[str], as_json: bool) -> tuple[str, int]:
    """Examine what `redis_url` names; what to print, and the exit code: 0 fine, 1 warnings, 2 errors."""
    async with open_store() as store:
        findings = await examine(store, services)
    return (as_machines_read_it if as_json else as_people_read_it)(findings), exit_code(findings)


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where all is fine or can't be known, 1 where there are warnings, 2 where there are errors."""
    return max(EXIT_CODES[finding.severity] for finding in findings)


def as_machines_read_it(findings: Sequence[Finding]) -> str:
    """One JSON object: the exit code and the findings."""
    content = {"exit_code": exit_code(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_people_read_it(findings: Sequence[Finding]) -> str:
    """A line a finding, the worst last; why and what to do beneath those that want mending."""
    lines = []
    for finding in sorted(findings, key=lambda finding: _ORDER.index(finding.severity)):
        where = f" ({finding.where})" if finding.where else ""
        lines.append(f"{_SIGNS[finding.severity]:8} {finding.id}: {finding.found}{where}")
        if finding.severity in (Severity.WARNING, Severity.ERROR):
            lines.append(f"{'':8}   why: {finding.why}")
            lines.append(textwrap.indent(f"mend it: {finding.mend}", " " * 11))
    return "\n".join(lines)


def _together(findings: Sequence[Finding]) -> list[Finding]:
    """Tell once what holds for several masters, and of what goes well only that."""
    told: dict[Finding, list[str]] = {}
    for finding in findings:
        told.setdefault(replace(finding, where=""), []).append(finding.where)
    return [replace(finding, where=", ".join(filter(None, where))) for finding, where in told.items()]

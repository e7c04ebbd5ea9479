"""`python -m shared_store.document_acl` writes Redis' users, docker/users*.acl, from acl.py.

Redis takes no comments in such a file: docs/redis.md says how to use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared_store.acl import DOCTOR, DOCTOR_IN_CLUSTER, DOCTOR_USER, REPLICA, SENTINEL, SERVICES

FOLDER = Path(__file__).parents[3] / "docker"
NO_PASSWORD = "#" + "0" * 64  # the hash of nothing: as shipped, nobody can log in
FORMS = {"users.acl": "standalone", "users-sentinel.acl": "sentinel", "users-cluster.acl": "cluster"}


def users(form: str, *, password: str = NO_PASSWORD) -> list[str]:
    """Give the lines that Redis reads for a form of redis_url, each user with the same `>password` or `#hash`."""
    cluster = form == "cluster"
    rights: dict[str, Sequence[str]] = {service: access.rights(cluster=cluster) for service, access in SERVICES.items()}
    rights[DOCTOR_USER] = [f"+{command}" for command in (*DOCTOR, *(DOCTOR_IN_CLUSTER if cluster else ()))]
    if form != "standalone":
        rights["replica"] = [f"+{command}" for command in REPLICA]
    if form == "sentinel":
        rights["sentinel"] = ["&*", *(f"+{command}" for command in SENTINEL)]
    lines = (f"user {name} on {password} resetchannels -@all {' '.join(own)}" for name, own in rights.items())
    # Nobody can log in as default, and yet it may do everything: Redis reads its append-only file in that user's name,
    # and would leave out the transactions in it that the user may not carry out.
    return ["user default off resetpass ~* &* +@all", *lines]


def acl_file(form: str) -> str:
    """Give the file for a form of redis_url."""
    return "".join(f"{line}\n" for line in users(form))


if __name__ == "__main__":
    for name, form in FORMS.items():
        (FOLDER / name).write_text(acl_file(form))

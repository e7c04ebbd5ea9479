"""Passwords and certificates of Redis change while people log in, as docs/redis.md says: nobody notices."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.faults.broker import Broker, broker
from tests.stack import until

from shared_store.acl import SERVICES
from shared_store.document_acl import users
from shared_store.testing.deployments import Certificates, tls_server

pytestmark = pytest.mark.timeout(240)

OLD, NEW = "old-password", "new-password"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Broker]:
    """Services that show a certificate to Redis and have a user each there."""
    everybody = tmp_path / "users.acl"
    operator = f"user operator on >{OLD} ~* &* +@all"
    everybody.write_text("".join(f"{line}\n" for line in [*users("standalone", password=f">{OLD}"), operator]))
    config = {"aclfile": str(everybody)}
    server = tls_server("redis7", client_certificates=True, config=config, login=("operator", OLD))
    files = server.options
    with broker(
        tmp_path, server=server, users=dict.fromkeys(SERVICES, OLD),
        redis_ca_file=files.ca_file, redis_client_cert=files.client_cert, redis_client_key=files.client_key,
    ) as whole:  # fmt: skip
        yield whole


@contextmanager
def people_log_in(running: Broker) -> Iterator[Callable[[], None]]:
    """One login after the other while the block runs; the callable waits for two that began after it was called."""
    done, stop, failures = 0, threading.Event(), list[Exception | AssertionError]()

    def log_in() -> None:
        nonlocal done
        try:
            while not stop.is_set():
                running.log_in(f"person-{done}@example.org")
                done += 1
        except (Exception, AssertionError) as error:  # noqa: BLE001  shown by the test
            failures.append(error)

    def some() -> None:
        target = done + 3
        until(lambda: failures or done >= target, bound=60)
        assert not failures, failures

    thread = threading.Thread(target=log_in)
    thread.start()
    try:
        some()
        yield some
    finally:
        stop.set()
        thread.join(60)
    assert not failures


def test_passwords_and_certificates_change_while_people_log_in_and_nobody_notices(
    running: Broker, tmp_path: Path
) -> None:
    ask, files = running.redis.ask, running.redis.options
    assert files.ca_file
    assert files.client_cert
    assert files.client_key
    with people_log_in(running) as some:
        for user in SERVICES:
            ask("ACL", "SETUSER", user, f">{NEW}")
            file = tmp_path / f"redis_url.{user}"
            file.write_text(file.read_text().replace(OLD, NEW))
            ask("ACL", "SETUSER", user, f"<{OLD}")
            ask("CLIENT", "KILL", "USER", user)
            some()

        def connect_anew() -> None:
            for kind in ("normal", "pubsub"):
                ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            some()

        (tmp_path / "new").mkdir()
        new = Certificates.make(tmp_path / "new")
        both = tmp_path / "both.pem"
        both.write_text(files.ca_file.read_text() + new.ca.read_text())
        # Everybody trusts both authorities, then shows what the new one has signed, then trusts that one alone.
        ask("CONFIG", "SET", "tls-ca-cert-file", str(both))
        shutil.copy(both, files.ca_file)
        connect_anew()
        ask("CONFIG", "SET", "tls-cert-file", str(new.server), "tls-key-file", str(new.server_key))
        connect_anew()
        shutil.copy(new.client, files.client_cert)
        connect_anew()  # the key does not fit yet: the old pair is shown
        shutil.copy(new.client_key, files.client_key)
        connect_anew()
        ask("CONFIG", "SET", "tls-ca-cert-file", str(new.ca))
        shutil.copy(new.ca, files.ca_file)
        connect_anew()

    running.until_ready()
    assert running.nobody_died()
    assert ask("ACL", "LOG") == []  # among them would be the old passwords, had anybody come with one
    for service in running.services:
        told = service.log.read_text()
        assert "Traceback" not in told
        assert OLD not in told
        assert NEW not in told

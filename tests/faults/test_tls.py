"""Redis' certificate is wrong: every service says in which way, and goes on by itself when it is mended."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.faults.broker import broker, is_told
from tests.stack import until

from shared_store.testing.deployments import Certificates, tls_server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

NOW = datetime.now(UTC)
PAST = (NOW - timedelta(days=30), NOW - timedelta(days=1))
# What is wrong: the names and times that the server is certified for, whether its authority is known, what is told.
WRONG: dict[str, tuple[tuple[str, ...], dict[str, Any], bool, tuple[str, ...]]] = {
    "unknown authority": ((), {}, False, ("TLS to Redis failed", "into redis_ca_file")),
    "another name": (("other.example",), {}, True, ("TLS to Redis failed", "mismatch", "redis_url")),
    "expired": ((), {"server_valid": PAST}, True, ("TLS to Redis failed", "has expired", "renew")),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.fault(
    row="TLS: unknown CA, wrong name, expired",
    cause="all services are started against a Redis 7 with a certificate of an unknown authority, of another name, or "
    "expired; then redis_ca_file or the server's certificate is mended; later it is the wrong one again for a while",
    auth_api="stays up, not ready; the log and /readyz say which of the three; /auth 503; goes on by itself",
    mailer="stays up, not ready; the log and /readyz say which of the three; goes on by itself",
    key_rotator="stays up, not ready; the log and /readyz say which of the three; goes on by itself",
)
def test_certificate_that_is_wrong_is_told_as_what_it_is_until_it_is_mended(tmp_path: Path, what: str) -> None:
    names, valid, is_known, told = WRONG[what]
    server = tls_server("redis7", *names, **valid)
    (tmp_path / "sound").mkdir()
    sound = Certificates.make(tmp_path / "sound")
    wrong = server.options
    assert wrong.ca_file
    trusted = tmp_path / "trusted.pem"
    shutil.copy(wrong.ca_file if is_known else sound.ca, trusted)
    shows_wrong = ("tls-cert-file", wrong.ca_file.with_name("server.pem"), "tls-key-file",
                   wrong.ca_file.with_name("server-key.pem"))  # fmt: skip
    shows_sound = ("tls-cert-file", sound.server, "tls-key-file", sound.server_key)
    with broker(tmp_path, server=server, starts=False, redis_ca_file=trusted) as running:

        def shows(certificate: tuple[str | Path, ...]) -> None:
            running.redis.ask("CONFIG", "SET", *map(str, certificate))
            for kind in ("normal", "pubsub"):
                running.redis.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

        def is_told_by_everyone() -> None:
            for service in running.services:
                for words in told:
                    until(lambda service=service, words=words: service.says(words))  # type: ignore[misc]
                    assert service.lines(words), service.module

        is_told_by_everyone()
        until(lambda: is_told(running.begin("early@example.org")))
        assert running.nobody_died()
        if is_known:
            shutil.copy(sound.ca, trusted)
            shows(shows_sound)
        else:
            shutil.copy(wrong.ca_file, trusted)
        running.until_ready()
        running.log_in("mended@example.org")

        kids = running.kids()
        if is_known:
            both = sound.ca.read_text() + wrong.ca_file.read_text()
            trusted.write_text(both)
            shows(shows_wrong)
        else:
            shows(shows_sound)  # which nobody trusts here
        is_told_by_everyone()
        assert is_told(running.begin("between@example.org"))
        assert running.kids() == kids
        shows(shows_sound if is_known else shows_wrong)
        running.until_ready()
        running.log_in("again@example.org")
        assert running.nobody_died()
        for service in running.services:
            assert "Traceback" not in service.log.read_text()

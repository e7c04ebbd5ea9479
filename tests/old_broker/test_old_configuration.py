"""A Rust broker's configuration, as it is, starts this broker and means the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from tests.person import Person
from tests.stack import Mailbox, Stack, free_port, launcher

from mailer.settings import Settings as MailerSettings
from service_kit.settings import load
from service_kit.settings.toml_file import OLD_TABLES
from shared_store.signing_keys import generate
from shared_store.testing.servers import RedisServer

HERE = Path(__file__).parent
SITE = "https://second.example"

# Every setting of the Rust broker 0.15 that a file can have. Those of a store or a transport that exclude the ones of
# the fixture are looked at one by one below.
OLD_SETTINGS = frozenset(
    """
    listen_ip listen_port public_url trusted_proxies data_dir allowed_origins cors_ttl csp allowed_domains
    blocked_domains allowed_domains_only verify_with_resolver verify_public_ip static_ttl discovery_ttl
    keys_ttl token_ttl session_ttl auth_code_ttl cache_ttl send_email_timeout webfinger_timeout
    oidc_config_timeout oidc_jwks_timeout discovery_timeout keyfiles keytext signing_algs rsa_modulus_bits
    generate_rsa_command redis_url from_name from_address smtp_server smtp_username smtp_password
    device_cookie_ttl limits google_client_id domain_overrides uncounted_emails
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Old:
    """Configuration files filled in, and the servers that they name."""

    folder: Path
    values: Mapping[str, str]
    mailbox: Mailbox
    logins: list[tuple[bytes, bytes]]

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.write_text(Template((HERE / name).read_text()).substitute(self.values))
        return path


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Old]:
    port, smtp_port, redis_port = free_port(), free_port(), free_port()
    (tmp_path / "origins").write_text(f"# sites\n\n  {SITE}  \n")
    (tmp_path / "domains").write_text("# ours\nbücher.example\nmail.example\n")
    (tmp_path / "rsa.pem").write_text(generate("RS256").private_pem)
    mailbox, logins = Mailbox(f"http://localhost:{port}"), list[tuple[bytes, bytes]]()

    def authenticate(_server: object, _session: object, _envelope: object, _how: str, data: object) -> AuthResult:
        logins.append((data.login, data.password))  # type: ignore[attr-defined]
        return AuthResult(success=True)

    smtp = Controller(mailbox, hostname="127.0.0.1", port=smtp_port, authenticator=authenticate, auth_require_tls=False)
    smtp.start()
    with RedisServer("valkey9", port=redis_port) as server:
        values = {
            "folder": str(tmp_path),
            "port": str(port),
            "smtp_port": str(smtp_port),
            "redis_url": server.url,
            "redis_host_and_port": f"127.0.0.1:{redis_port}",
            "rsa": generate("RS256").private_pem,
            "ed25519": generate("EdDSA").private_pem,
        }
        yield Old(tmp_path, values, mailbox, logins)
    smtp.stop()


def url(broker: str, address: str, site: str = SITE) -> str:
    query = {
        "client_id": site,
        "redirect_uri": f"{site}/verify",
        "response_type": "id_token",
        "response_mode": "form_post",
        "scope": "openid email",
        "nonce": "n",
        "login_hint": address,
    }
    return f"{broker}/auth?{httpx.QueryParams(query)}"


@pytest.mark.parametrize("name", ["current.toml", "deprecated.toml"])
def test_broker_starts_with_it_and_a_person_logs_in(old: Old, name: str) -> None:
    with launcher(old.folder, str(old.file(name)), internal_port="0") as running:
        person = Person(Stack(running.urls, running.log, old.mailbox), "person@xn--bcher-kva.example")
        answer = person.log_in(url(running.broker, "Person@BÜCHER.example"))
        stranger = person.open(url(running.broker, "person@mail.example", site="https://stranger.example"))
        keys = httpx.get(f"{running.broker}/keys.json").json()["keys"]
        person.close()
    assert answer.url == f"{SITE}/verify"
    assert answer.fields["id_token"]
    assert stranger.status_code == 400
    assert [key["alg"] for key in keys] == (["RS256", "EdDSA"] if name == "current.toml" else ["RS256", "RS256"])
    assert old.logins[0] == (b"somebody", b"sesame")
    warnings = set(re.findall(r"(?m)(\[?\w+\]? ?\w+) \(file \S+\) is deprecated", running.log.read_text()))
    assert warnings >= ({"[server] listen_ip", "[limit] per_email"} if name == "deprecated.toml" else set())


def test_fixtures_hold_every_setting_and_every_table(old: Old) -> None:
    current = tomllib.loads(old.file("current.toml").read_text())
    assert current.keys() == OLD_SETTINGS
    deprecated = tomllib.loads(old.file("deprecated.toml").read_text())
    assert {table: set(deprecated[table]) for table in OLD_TABLES} == {t: set(OLD_TABLES[t]) for t in OLD_TABLES}
    assert "limit_per_email" in deprecated


def check(config: Path | None, **environment: str) -> tuple[int, str]:
    """Run `portier-broker --check`; gives the exit code and all that it says."""
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/tmp"), **environment}
    words = [sys.executable, "-P", "-m", "portier_broker", "--check", *([str(config)] if config else [])]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_check_tells_every_setting_with_its_source_and_no_secret(old: Old) -> None:
    file = old.file("current.toml")
    code, told = check(file, BROKER_CSP="from the environment", BROKER_PUBLIC_UR="x")
    assert code == 0, told
    for name in OLD_SETTINGS - {"csp"}:
        [line, *_] = [line for line in told.splitlines() if line.split()[:1] == [name]]
        assert line.endswith(f"file {file}")
    assert re.search(r"(?m)^csp +from the environment +environment BROKER_CSP$", told)
    assert re.search(r"(?m)^wrong_codes_per_address +100 +default$", told)
    assert "did you mean BROKER_PUBLIC_URL?" in told
    assert "sesame" not in told
    assert "PRIVATE" not in told
    assert "generate_rsa_command" in told
    assert "is deprecated" in told


def test_check_tells_what_a_hosting_platform_has_set() -> None:
    platform = {
        "PORT": "5000",
        "HEROKU_APP_NAME": "my-login",
        "REDISCLOUD_URL": "redis://:hunter2@cloud.example:1",
        "OPENREDIS_URL": "redis://other.example",
        "SENDGRID_USERNAME": "u",
        "SENDGRID_PASSWORD": "hunter2",
        "BROKER_FROM_ADDRESS": "noreply@login.example",
    }
    code, told = check(None, **platform)
    assert code == 0, told
    for name, value, source in (
        ("listen_port", "5000", "PORT"),
        ("listen_ip", "0.0.0.0", "PORT"),
        ("public_url", "https://my-login.herokuapp.com", "HEROKU_APP_NAME"),
        ("redis_url", "redis://:***@cloud.example:1", "REDISCLOUD_URL"),
        ("smtp_server", "smtp.sendgrid.net:587", "SENDGRID_USERNAME"),
        ("smtp_username", "u", "SENDGRID_USERNAME"),
        ("smtp_password", "***", "SENDGRID_PASSWORD"),
    ):
        assert re.search(rf"(?m)^{name} +\[?{re.escape(value)}\]? +environment {source}$", told), name
    assert "hunter2" not in told


ALTERNATIVES = re.findall(r"(?m)^# alternative: (.+)$", (HERE / "current.toml").read_text())


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_each_other_transport_can_stand_in_its_place(tmp_path: Path, alternative: str) -> None:
    lines = alternative.replace("; ", "\n")
    file = tmp_path / "broker.toml"
    file.write_text(f'redis_url = "redis://localhost"\nfrom_address = "noreply@login.example"\n{lines}\n')
    loaded = load(MailerSettings, service="mailer", config_path=file, environ={})
    assert loaded.settings.transports == (lines.partition("_")[0],)
    assert loaded.warnings == ()


def test_sqlite_and_two_stores_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    for lines, words in {
        'sqlite_db = "portier.sqlite3"': ("redis_url", "memory_storage"),
        'redis_url = "redis://localhost"\nmemory_storage = true': ("keep one of the two",),
        'public_ulr = "https://login.example"': ("did you mean public_url?",),
    }.items():
        file.write_text(f"{lines}\n")
        code, told = check(file)
        assert code == 2
        assert all(word in told for word in words)
        assert "Traceback" not in told

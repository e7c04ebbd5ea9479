"""Every service as a process under the Redis user that is shipped for it: all that it does, and not a right more."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from tests.faults.broker import SITE, Broker, Service, broker, open_smtp
from tests.person import form_to
from tests.stack import until

from shared_store.document_acl import FOLDER
from shared_store.testing.servers import RedisServer, free_port

pytestmark = pytest.mark.timeout(240)

MAKE_SECRETS = FOLDER / "make-secrets"
SECRET = "the-secret-of-postmarks-calls-32ch"
SETTINGS: Mapping[str, Any] = {
    "suppression_key": "a key of at least thirty-two characters", "postmark_webhook_secret": SECRET, "resend_delay": 1,
    "key_encryption_key": "k3y-of-at-least-thirty-two-characters", "allowed_domains": "",
    "signing_algs": "RS256,EdDSA",
}  # fmt: skip


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Those that docker/make-secrets gave out; run twice, since an operator does so again after an upgrade."""
    folder = tmp_path_factory.mktemp("secrets")
    for _ in range(2):
        subprocess.run([MAKE_SECRETS, folder], check=True, stdout=subprocess.DEVNULL)
    assert folder.stat().st_mode & 0o777 == 0o700
    urls = {path.suffix[1:]: path.read_text() for path in folder.glob("redis_url.*")}
    found = {user: urlsplit(url).password or "" for user, url in urls.items()}
    assert min(map(len, found.values())) == 48
    return {"file": str(folder / "redis_acl"), **found}


@pytest.fixture(scope="module")
def running(passwords: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    config = {
        "aclfile": passwords["file"], "maxmemory": "64mb", "maxmemory-policy": "volatile-lru", "appendonly": "yes",
    }  # fmt: skip
    server = RedisServer("redis7", port=free_port(), config=config, login=("operator", passwords["operator"]))
    with broker(tmp_path_factory.mktemp("broker"), server=server, users=passwords, **SETTINGS) as whole:
        yield whole


def refused(running: Broker) -> list[str]:
    """What the server refused since it started."""
    return [str(entry) for entry in running.redis.ask("ACL", "LOG")]


def command(service: Service, *words: str) -> str:
    """Run a service's command as an operator does, under the service's own user."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", service.module, *words],
        env=service.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 or words == ("doctor",), done.stdout + done.stderr
    assert "ERROR" not in done.stdout
    return done.stdout


def logs_in_by_code_flow(running: Broker, address: str) -> None:
    verifier = "v" * 43
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    begun = running.begin(
        address,
        response_type="code",
        response_mode="query",
        code_challenge=challenge,
        code_challenge_method="S256",
    )
    assert begun.status_code == 200, begun.text
    back = running.confirm(address).headers["location"]
    grant = {
        "grant_type": "authorization_code", "code": dict(parse_qsl(urlsplit(back).query))["code"], "client_id": SITE,
        "redirect_uri": f"{SITE}/back", "code_verifier": verifier,
    }  # fmt: skip
    tokens = httpx.post(f"{running.urls[0]}/token", data=grant, timeout=30).json()
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    told = httpx.get(f"{running.urls[1]}/userinfo", headers=bearer, timeout=30)
    assert told.json()["email"] == address
    again = httpx.post(f"{running.urls[1]}/token", data=grant, timeout=30)
    assert again.status_code == 400


def types_wrong_has_it_mailed_again_and_cancels(running: Broker, address: str) -> None:
    with httpx.Client(timeout=30) as browser:
        page = running.begin(address, browser=browser)
        session = form_to("/confirm", page).fields["session"]
        wrong = browser.post(f"{running.urls[0]}/confirm", data={"session": session, "code": "aaaaaaaaaaaa"})
        assert wrong.status_code == 403
        running.mailbox.wait_for(address)

        def is_mailed_again() -> bool:
            browser.post(f"{running.urls[1]}/resend", data={"session": session})  # too soon at first
            return running.mailbox.count(address) > 1

        until(is_mailed_again)
        assert session[:4] not in command(running.apis[0], "login", session)
        browser.post(f"{running.urls[0]}/cancel", data={"session": session})
        gone = browser.post(f"{running.urls[0]}/confirm", data={"session": session, "code": "a" * 12})
        assert gone.status_code == 400


def bounces(running: Broker, address: str) -> None:
    report = {"RecordType": "Bounce", "Type": "HardBounce", "TypeCode": 1, "Email": address, "Inactive": True}
    url = f"{running.urls[0]}/webhooks/postmark"
    assert httpx.post(url, json=report, auth=("postmark", SECRET), timeout=30).is_success
    assert running.begin(address).status_code == 400
    command(running.mailers[0], "suppressions", "lift", address)
    assert running.begin(address).status_code == 200


def is_put_off_then_taken_over_from_a_mailer_that_dies(running: Broker, address: str) -> None:
    running.smtp.stop()
    assert running.begin(address).status_code == 200
    until(lambda: running.redis.ask("ZCARD", "mail:{mail}:delayed"))
    running.mailers[0].end()
    running.smtp = open_smtp(running.mailbox, running.smtp.port)
    running.mailers[0].start()
    running.mailbox.wait_for(address)


def test_services_do_all_their_work_and_are_refused_nothing(running: Broker) -> None:
    api, mailer, rotator = running.apis[0], running.mailers[0], running.rotators[0]
    running.log_in("jane@example.org")
    logs_in_by_code_flow(running, "code@example.org")
    types_wrong_has_it_mailed_again_and_cancels(running, "again@example.org")
    running.begin("nobody@example.org")  # the mail server knows no such person
    until(lambda: running.redis.ask("LLEN", "mail:{mail}:dead"))
    bounces(running, "bounces@example.org")
    is_put_off_then_taken_over_from_a_mailer_that_dies(running, "later@example.org")

    kids = running.kids()
    command(rotator, "rotate", "--now")
    until(lambda: running.kids() != kids)
    command(rotator, "revoke", running.kids()[0], "--reason", "drill")
    command(rotator, "reseal")
    running.log_in("after@example.org")
    for words in (["status"], ["log"], ["doctor"]):
        command(rotator, *words)
    for words in (
        ["queue"],
        ["queue", "list"],
        ["queue", "dead"],
        ["queue", "purge"],
        ["suppressions", "list"],
        ["doctor"],
    ):
        command(mailer, *words)
    command(api, "doctor")

    assert refused(running) == []
    running.until_ready()
    for service in running.services:
        told = service.log.read_text()
        assert "ACL denies" not in told
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        ("auth-api", "mailer", "the script load_key_set on keys:{*}"),
        ("mailer", "key-rotator", "LLEN on mail:{*}:ready"),
        ("key-rotator", "mailer", "the script load_key_set on keys:{*}"),
    ],
)
def test_service_with_anothers_user_says_what_it_may_not_do(
    running: Broker, passwords: Mapping[str, str], tmp_path: Path, mine: str, theirs: str, told: str
) -> None:
    url = running.redis.url.replace("://", f"://{theirs}:{passwords[theirs]}@")
    [like, *_] = [service for service in running.services if service.module == mine.replace("-", "_")]
    file = tmp_path / "redis_url"
    file.write_text(url)
    environ = like.environ | {"BROKER_REDIS_URL_FILE": str(file), "BROKER_LISTEN_PORT": str(free_port())}
    service = Service(like.module, tmp_path / "log", environ)
    service.start()
    try:
        until(lambda: f"sent was {told}" in service.log.read_text())
        assert "the Redis ACL denies" in service.log.read_text()
        assert passwords[theirs] not in service.log.read_text()
        assert not service.is_ready()
        assert service.process.poll() is None
    finally:
        service.end()
        running.redis.ask("ACL", "LOG", "RESET")

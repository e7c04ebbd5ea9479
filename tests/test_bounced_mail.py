"""An address that mail came back from, through the whole broker: reported, told, lifted, mailed again."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx
import pytest
from tests.person import Person, answer_of, form_to

from shared_store.testing.servers import RedisServer

if TYPE_CHECKING:
    from .conftest import MakeStack

SECRET = "the-secret-of-postmarks-calls-32ch"
KEY = "a key of at least thirty-two characters"
SITE = "https://shop.example"
JANE = "jane@bounces.invalid"


def mailer(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mailer …` as an operator does."""
    settings = {"redis_url": url, "suppression_key": KEY, "from_address": "a@b.example", "smtp_server": "mail"}
    environ = os.environ | {f"BROKER_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-P", "-m", "mailer", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.setting("suppression_key", "postmark_webhook_secret")
def test_bounced_address_is_told_at_once_and_mailed_again_once_it_is_lifted(
    make_stack: MakeStack, valkey_server: RedisServer
) -> None:
    url = valkey_server.url
    settings = {"suppression_key": KEY, "postmark_webhook_secret": SECRET, "redis_url": url, "memory_storage": "false"}
    with make_stack(**settings) as stack:
        person = Person(stack, JANE)
        request = {
            "client_id": SITE, "redirect_uri": f"{SITE}/callback", "response_type": "id_token", "nonce": "n",
            "scope": "openid email", "response_mode": "form_post", "login_hint": JANE,
        }  # fmt: skip
        login = f"{stack.broker}/auth?{urlencode(request)}"
        assert "id_token" in person.log_in(login).fields

        report = {"RecordType": "Bounce", "Type": "HardBounce", "TypeCode": 1, "Email": JANE, "Inactive": True}
        called = httpx.post(f"{stack.broker}/webhooks/postmark", json=report, auth=("postmark", SECRET))
        assert called.status_code == 200

        told = person.open(login)
        assert told.status_code == 400
        assert "came back or was refused" in told.text
        assert stack.mailbox.count(JANE) == 1
        asked = person.submit(form_to("/auth", told))
        assert f'value="{JANE}"' in asked.text
        elsewhere = person.submit(form_to("/auth", asked), login_hint="jane@elsewhere.invalid")
        code = stack.mailbox.wait_for("jane@elsewhere.invalid").code
        assert "id_token" in answer_of(person.submit(form_to("/confirm", elsewhere), code=code)).fields

        assert "hard_bounce (postmark)" in mailer(url, "suppressions", "list").stdout
        assert mailer(url, "suppressions", "lift", JANE).returncode == 0
        assert "id_token" in person.log_in(login).fields
        assert stack.mailbox.count(JANE) == 2
        assert "jane@" not in stack.log.read_text()
        person.close()

"""The mail server won't have us, or won't have a person; who mends it finds every mail still there."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trustme
from playwright.sync_api import Browser, Route
from tests.faults.broker import SITE, asked
from tests.faults.mail_servers import Behaviour, MailServer
from tests.stack import until

from .conftest import MakeBroker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PASSWORD, OTHER = "correct horse battery staple", "another password altogether"
REST = 60.0  # seconds for which a server that refused our password is left alone


def tls(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


FAULTS: dict[str, tuple[Callable[[trustme.CA], Behaviour], str]] = {
    "another password": (lambda ours: Behaviour(tls=tls(ours), password=OTHER), "auth 535 5.7.8"),
    "no STARTTLS": (lambda _: Behaviour(), "tls not offered: STARTTLS"),
    "a certificate of another name": (
        lambda ours: Behaviour(tls=tls(ours, "elsewhere.example"), password=PASSWORD), "tls certificate refused"),
    "a certificate of another CA": (
        lambda _: Behaviour(tls=tls(trustme.CA()), password=PASSWORD), "tls certificate refused"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.fault(
    row="SMTP: wrong password, no STARTTLS, wrong certificate",
    cause="smtp_security=starttls and a server with another password, without STARTTLS, or with a wrong certificate",
    auth_api="the page comes, and says that the mail is late",
    mailer="the log says why, without password or address, metrics whose fault; sent, once, when the server is mended",
    key_rotator="-",
)
def test_server_that_will_not_have_us_loses_no_mail(
    make_broker: MakeBroker, server: MailServer, tmp_path: Path, fault: str
) -> None:
    ours = trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    make, reason = FAULTS[fault]
    server.restart(make(ours))
    running = make_broker(
        smtp_server=f"localhost:{server.port}", smtp_security="starttls", smtp_ca_file=tmp_path / "ca.pem",
        smtp_username="broker", smtp_password=PASSWORD,
    )  # fmt: skip
    page = running.begin("patient@example.org")
    assert (page.status_code, 'id="notice"' in page.text) == (200, True)
    until(lambda: f'"reason": "{reason}' in running.mail_log())
    until(lambda: running.sent("mailer_transport_tries_total", transport="smtp", fault="transport") >= 1)
    until(lambda: running.sent("mailer_retries_total") >= 1)
    assert all(mailer.is_ready() for mailer in running.mailers)
    server.restart(Behaviour(tls=tls(ours), password=PASSWORD))
    until(lambda: not running.mails_waiting(), bound=REST * 2.5)
    assert running.confirm("patient@example.org").status_code == 200
    assert server.count("patient@example.org") == 1
    assert not any(secret in running.mail_log() for secret in (PASSWORD, OTHER, "patient@"))
    assert running.nobody_died()


@pytest.mark.fault(
    row="recipient refused for good",
    cause="the mail server answers RCPT with 550 5.1.1",
    auth_api="within mail_wait: 400 and a page that says so and lets the address be corrected; that one's login ends",
    mailer="given up at once as rejected; not the transport's fault",
    key_rotator="-",
)
def test_person_whose_address_is_refused_is_told_and_corrects_it(
    make_broker: MakeBroker, server: MailServer, chromium: Browser
) -> None:
    running = make_broker(server, mail_wait=10)
    server.behaviour.refuses["jnae@example.org"] = "550 5.1.1 no such person"
    page = chromium.new_page(java_script_enabled=False)
    came: list[str] = []

    def at_the_site(route: Route) -> None:
        came.append(route.request.post_data or "")
        route.fulfill(body="welcome")

    page.route(f"{SITE}/**", at_the_site)
    told = page.goto(f"{running.urls[0]}/auth?{urlencode(asked('jnae@example.org'))}")
    assert told is not None
    assert told.status == 400
    assert "was refused, as if there were no such address" in page.inner_text("main")
    page.get_by_role("button", name="Use another address").click()
    address = page.get_by_label("Your email address")
    assert address.input_value() == "jnae@example.org"
    address.fill("jane@example.org")
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Code from the email").fill(running.mailbox.wait_for("jane@example.org").code)
    page.get_by_role("button", name="Confirm").click()
    page.locator("button").click()  # the page that posts by itself, where there are scripts
    assert "id_token=" in came[0]
    page.close()
    assert running.sent("mailer_given_up_total", reason="rejected") == 1
    assert running.sent("mailer_circuit", transport="smtp") == 0


@pytest.mark.fault(
    row="mailbox full (452)",
    cause="the mail server answers RCPT with 452 4.2.2, until the mailbox is emptied",
    auth_api="the page says that the mail is late; nobody else notices",
    mailer="tried again until it is taken, once; the transport is used on, and no other is tried",
    key_rotator="-",
)
def test_mail_to_a_full_mailbox_comes_once_there_is_room(
    make_broker: MakeBroker, server: MailServer, second: MailServer
) -> None:
    running = make_broker(server, second)
    server.behaviour.refuses["full@example.org"] = "452 4.2.2 mailbox full"
    page = running.begin("full@example.org")
    assert (page.status_code, 'id="notice"' in page.text) == (200, True)
    until(lambda: running.sent("mailer_retries_total") >= 3)
    for number in range(6):
        running.log_in(f"other{number}@example.org")
    del server.behaviour.refuses["full@example.org"]
    until(lambda: not running.mails_waiting(), bound=90)
    assert running.confirm("full@example.org").status_code == 200
    assert (server.count("full@example.org"), second.taken) == (1, [])
    assert running.sent("mailer_circuit") == 0

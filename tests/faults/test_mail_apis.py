"""A provider of mail answers 429 and asks to be left alone, in words that make sense or none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from tests.faults.broker import URL, Broker, Catcher, broker
from tests.faults.mail_servers import MailApi, MailServer
from tests.stack import until

from .conftest import MakeBroker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SECRET = "whsec_" + "c2VjcmV0" * 4
WAIT = 20.0  # seconds; all logins are to begin within it
YEAR = str(365 * 24 * 3600)
MAILERS = 2


@pytest.fixture
def api(mailbox: Catcher) -> Iterator[MailApi]:
    with MailApi(mailbox) as running:
        yield running


def begin_some(running: Broker) -> list[str]:
    """Begin logins one after another."""
    people = [f"person{number}@example.org" for number in range(6)]
    assert {running.begin(person).status_code for person in people} == {200}
    return people


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.fault(
    row="provider answers 429",
    cause="an HTTP server answers with 429 and a Retry-After of 20 s, in seconds or as a date",
    auth_api="the page comes, and says that the mail is late",
    mailer="each mailer asks once, then nothing, not even a check, before the time is over; then each mail comes, once",
    key_rotator="-",
)
def test_provider_is_left_alone_for_as_long_as_it_asks(make_broker: MakeBroker, api: MailApi, form: str) -> None:
    # One at a time: a mailer with several under way would have asked for each before it hears the first answer.
    running = make_broker(mail_webhook_url=api.url, mail_webhook_secret=SECRET, mail_wait=0, mail_concurrency=1)
    # A date has whole seconds: rounded up, it is never sooner than meant.
    opens = float(int(time.time() + WAIT) + 1)

    def wait() -> str | None:
        left = opens - time.time()
        if left <= 0:
            return None
        return formatdate(opens, usegmt=True) if form == "date" else str(int(left) + 1)

    api.wait = wait
    people = begin_some(running)
    assert time.time() < opens, "this machine is too slow for this test"
    until(lambda: not running.mails_waiting(), bound=120)
    too_soon = [call for call in api.calls if call.at < opens]
    assert 1 <= len(too_soon) <= MAILERS, api.calls
    assert {call.method for call in too_soon} == {"POST"}
    assert sorted(call.to for call in api.calls if call.status == 200 and call.to) == people
    assert running.confirm(people[0]).status_code == 200


@pytest.mark.parametrize("words", ["-5", "soon", "", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", "٣"])
@pytest.mark.fault(
    row="provider answers 429",
    cause="a Retry-After that is negative, past or junk, with the first three answers",
    auth_api="the page comes",
    mailer="backs off as it does without one; each mail comes, once",
    key_rotator="-",
)
def test_retry_after_that_makes_no_sense_is_passed_over(calm: tuple[Broker, MailApi], words: str) -> None:
    running, api = calm
    api.calls.clear()
    api.wait = lambda: words if len(api.calls) < 3 else None
    person = f"person{abs(hash(words))}@example.org"
    running.log_in(person)
    until(lambda: not running.mails_waiting())
    assert [call.status for call in api.calls if call.to == person].count(200) == 1
    assert running.nobody_died()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, MailApi]]:
    """One broker for all of those."""
    mailbox = Catcher(URL)
    with MailApi(mailbox) as api:
        folder = tmp_path_factory.mktemp("broker")
        with broker(
            folder, mailbox=mailbox, smtp_server="", mail_webhook_url=api.url, mail_webhook_secret=SECRET
        ) as running:
            yield running, api


@pytest.mark.fault(
    row="provider answers 429",
    cause="a Retry-After of a year; session_ttl=60, so that mail is of use for 30 s",
    auth_api="the page comes, and says that the mail is late",
    mailer="each mailer asks once; no job is given up before its deadline, since a transport may be back by then",
    key_rotator="-",
)
def test_provider_that_asks_for_a_year_has_no_mail_given_up_before_its_deadline(
    make_broker: MakeBroker, api: MailApi
) -> None:
    running = make_broker(mail_webhook_url=api.url, mail_webhook_secret=SECRET, session_ttl=60)
    api.wait = lambda: YEAR
    began = time.time()
    people = begin_some(running)
    until(lambda: running.sent("mailer_circuit", transport="webhook") >= 2)
    until(lambda: running.mails_waiting() < len(people), bound=60)
    assert time.time() - began >= 25  # the last attempt is send_email_timeout, 5 s, before the deadline
    assert len(api.calls) <= MAILERS
    until(lambda: running.sent("mailer_given_up_total", reason="expired") == len(people))
    assert running.nobody_died()


@pytest.mark.fault(
    row="provider answers 429",
    cause="a Retry-After of a year, and a mail server as the next transport",
    auth_api="the page comes, and does not say that the mail is late",
    mailer="each mailer asks once; all mails go by the mail server at once",
    key_rotator="-",
)
def test_mails_go_by_the_next_transport_while_the_provider_is_left_alone(
    make_broker: MakeBroker, api: MailApi, server: MailServer
) -> None:
    running = make_broker(
        server, mail_webhook_url=api.url, mail_webhook_secret=SECRET, mail_transports="webhook,smtp", mail_wait=10
    )
    api.wait = lambda: YEAR
    people = begin_some(running)
    assert [to for to, _ in server.taken] == people
    assert 1 <= len(api.calls) <= MAILERS
    assert running.sent("mailer_retries_total") == 0

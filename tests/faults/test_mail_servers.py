"""The mail server is slow, gone, or hangs up; what becomes of logins meanwhile."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.faults.broker import Broker
from tests.faults.mail_servers import MailServer
from tests.stack import until

from .conftest import MakeBroker

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LATE = {"en": "The email is taking longer than usual.", "de": "Die E-Mail braucht länger als sonst."}
SLOW = 30.0  # seconds
CONCURRENCY = 3  # mails that each of the two mailers sends at the same time


def begin_many(running: Broker, addresses: list[str]) -> None:
    """Begin logins at the same time; each gets its page."""
    with ThreadPoolExecutor(len(addresses)) as people:
        pages = list(people.map(running.begin, addresses))
    assert {page.status_code for page in pages} == {200}


def people(number: int) -> list[str]:
    return [f"person{index}@example.org" for index in range(number)]


@pytest.mark.fault(
    row="slow SMTP (30 s)",
    cause="the only mail server answers the content of each mail after 30 s; eight logins at once",
    auth_api="the page comes after mail_wait and says that the mail is late",
    mailer="mail_concurrency=3, two mailers: six connections at the most; each mail is delivered, once",
    key_rotator="-",
)
def test_server_that_answers_after_half_a_minute_gets_each_mail_once_and_few_at_a_time(
    make_broker: MakeBroker, server: MailServer
) -> None:
    running = make_broker(server, mail_concurrency=CONCURRENCY)
    server.behaviour.answers_after = SLOW
    everyone = people(CONCURRENCY * 2 + 2)
    begin_many(running, everyone)
    page = running.begin("late@example.org")
    assert LATE["en"] in page.text
    assert not server.taken
    until(lambda: not running.mails_waiting(), bound=SLOW * 4)
    assert sorted(to for to, _ in server.taken) == sorted([*everyone, "late@example.org"])
    assert server.most <= CONCURRENCY * 2
    assert running.confirm("late@example.org").status_code == 200
    assert running.nobody_died()


@pytest.mark.fault(
    row="slow SMTP (30 s)",
    cause="the first of two mail servers answers the content of each mail after 30 s; twenty logins at once",
    auth_api="the page comes after mail_wait",
    mailer="six mails wait at the first, the others go by the second meanwhile; each is delivered, once",
    key_rotator="-",
)
def test_mails_that_a_slow_server_has_keep_no_other_from_going_by_the_next(
    make_broker: MakeBroker, server: MailServer, second: MailServer
) -> None:
    running = make_broker(server, second, mail_concurrency=CONCURRENCY)
    server.behaviour.answers_after = SLOW
    everyone = people(20)
    begin_many(running, everyone)
    until(lambda: len(second.taken) >= len(everyone) - CONCURRENCY * 2)
    assert not server.taken
    until(lambda: not running.mails_waiting(), bound=SLOW * 2)
    assert sorted(to for to, _ in server.taken + second.taken) == sorted(everyone)
    assert server.most <= CONCURRENCY * 2
    assert running.nobody_died()


@pytest.mark.fault(
    row="slow SMTP (30 s)",
    cause="the only mail server greets after 30 s",
    auth_api="the page comes after mail_wait and says that the mail is late",
    mailer="the mail is delivered, once, over a connection that was opened beside it",
    key_rotator="-",
)
def test_server_that_greets_after_half_a_minute_gets_the_mail(make_broker: MakeBroker, server: MailServer) -> None:
    running = make_broker(server, mail_concurrency=CONCURRENCY)
    server.behaviour.greets_after = SLOW
    page = running.begin("patient@example.org")
    assert LATE["en"] in page.text
    until(lambda: not running.mails_waiting(), bound=SLOW * 8)
    assert server.count("patient@example.org") == 1
    assert server.most <= CONCURRENCY * 2


@pytest.mark.fault(
    row="SMTP down for minutes",
    cause="the only mail server is stopped; session_ttl=80, so that mail is of use for 40 s; then it is started again",
    auth_api="the page says that the mail is late, in the person's language",
    mailer="backs off; metrics count each try; the last mail is sent before its deadline, the first expired unsent",
    key_rotator="-",
)
def test_mail_is_sent_before_its_deadline_or_not_at_all(make_broker: MakeBroker, server: MailServer) -> None:
    running = make_broker(server, session_ttl=80)
    server.stop()
    for language, text in LATE.items():
        page = running.begin(f"first-{language}@example.org", ui_locales=language)
        assert (page.status_code, text in page.text) == (200, True), page.text
    until(lambda: running.sent("mailer_transport_tries_total", transport="smtp", fault="transport") >= 4)
    until(lambda: running.sent("mailer_given_up_total", reason="expired") >= 1, bound=60)
    assert running.begin("last@example.org").status_code == 200
    until(lambda: running.sent("mailer_given_up_total", reason="expired") == 2)
    assert running.mail_log().count('"mail_put_off"') > 4
    server.start()
    assert running.confirm("last@example.org").status_code == 200
    until(lambda: not running.mails_waiting())
    assert [to for to, _ in server.taken] == ["last@example.org"]
    running.log_in("after@example.org")
    assert running.nobody_died()


@pytest.mark.fault(
    row="SMTP down for minutes",
    cause="the first of two mail servers is stopped, then started again",
    auth_api="the page comes, and does not say that the mail is late",
    mailer="the mail goes by the second at once, mailer_circuit 2 for the first; returns to the first by itself",
    key_rotator="-",
)
def test_mails_go_by_the_second_server_at_once_and_return_to_the_first(
    make_broker: MakeBroker, server: MailServer, second: MailServer
) -> None:
    running = make_broker(server, second, mail_wait=10)
    running.log_in("before@example.org")
    server.stop()
    for person in people(20):
        page = running.begin(person)
        assert LATE["en"] not in page.text
        assert second.count(person) == 1
    until(lambda: running.sent("mailer_circuit", transport=server.name) >= 2)
    assert running.sent("mailer_retries_total") == 0
    server.start()
    people_later = (f"after{number}@example.org" for number in itertools.count())
    until(lambda: running.begin(person := next(people_later)).is_success and server.count(person))


@pytest.mark.fault(
    row="SMTP closes after DATA without a reply",
    cause="the mail server takes the content of a mail and closes the connection",
    auth_api="the page comes, and says that the mail is late",
    mailer="counted as unknown; the same mail again, with the same Message-ID, not by another server: one duplicate",
    key_rotator="-",
)
def test_mail_whose_reply_was_lost_comes_again_under_its_message_id(
    make_broker: MakeBroker, server: MailServer, second: MailServer
) -> None:
    running = make_broker(server, second, mail_wait=0)
    server.behaviour.hangs_up = 1
    page = running.begin("twice@example.org")
    assert LATE["en"] in page.text
    until(lambda: not running.mails_waiting())
    assert running.sent("mailer_transport_tries_total", fault="unknown") == 1
    assert running.sent("mailer_retries_total") == 1
    assert [to for to, _ in server.taken] == ["twice@example.org"] * 2
    assert len({message_id for _, message_id in server.taken}) == 1
    assert not second.taken
    assert running.confirm("twice@example.org").status_code == 200

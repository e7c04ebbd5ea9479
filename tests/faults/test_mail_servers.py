"""The mail server is slow, gone, hangs up, won't have us, or refuses people; what becomes of logins meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.faults.broker import URL, Broker, Catcher, broker
from tests.faults.mail_servers import MailServer
from tests.stack import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

LATE = {"en": "The email is taking longer than usual.", "de": "Die E-Mail braucht länger als sonst."}
SLOW = 30.0  # seconds
CONCURRENCY = 3  # mails that each of the two mailers sends at the same time

Start = Callable[..., Broker]


@pytest.fixture
def mailbox() -> Catcher:
    return Catcher(URL)


@pytest.fixture
def server(mailbox: Catcher) -> Iterator[MailServer]:
    with MailServer(mailbox) as running:
        yield running


@pytest.fixture
def second(mailbox: Catcher) -> Iterator[MailServer]:
    with MailServer(mailbox) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, mailbox: Catcher) -> Iterator[Start]:
    """Start the services with these mail servers in their order."""
    with contextlib.ExitStack() as stack:

        def started(*servers: MailServer, **settings: object) -> Broker:
            addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
            given = {"smtp_server": addresses, "mail_concurrency": CONCURRENCY, **settings}
            return stack.enter_context(broker(tmp_path, mailbox=mailbox, **given))

        yield started


def begin_many(running: Broker, addresses: list[str]) -> None:
    """Begin logins at the same time; each gets its page, which says that the mail is late."""
    with ThreadPoolExecutor(len(addresses)) as people:
        pages = list(people.map(running.begin, addresses))
    assert {page.status_code for page in pages} == {200}


def people(number: int) -> list[str]:
    return [f"person{index}@example.org" for index in range(number)]


def no_mail_waits(running: Broker) -> bool:
    return not running.redis.ask("HLEN", "mail:{mail}:jobs")


@pytest.mark.fault(
    row="slow SMTP (30 s)",
    cause="the only mail server answers the content of each mail after 30 s; eight logins at once",
    auth_api="the page comes after mail_wait and says that the mail is late",
    mailer="mail_concurrency=3, two mailers: six connections at the most; each mail is delivered, once",
    key_rotator="-",
)
def test_server_that_answers_after_half_a_minute_gets_each_mail_once_and_few_at_a_time(
    start: Start, server: MailServer
) -> None:
    running = start(server)
    server.behaviour.answers_after = SLOW
    everyone = people(CONCURRENCY * 2 + 2)
    begin_many(running, everyone)
    page = running.begin("late@example.org")
    assert LATE["en"] in page.text
    assert not server.taken
    until(lambda: no_mail_waits(running), bound=SLOW * 4)
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
    start: Start, server: MailServer, second: MailServer
) -> None:
    running = start(server, second)
    server.behaviour.answers_after = SLOW
    everyone = people(20)
    begin_many(running, everyone)
    until(lambda: len(second.taken) >= len(everyone) - CONCURRENCY * 2)
    assert not server.taken
    until(lambda: no_mail_waits(running), bound=SLOW * 2)
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
def test_server_that_greets_after_half_a_minute_gets_the_mail(start: Start, server: MailServer) -> None:
    running = start(server)
    server.behaviour.greets_after = SLOW
    page = running.begin("patient@example.org")
    assert LATE["en"] in page.text
    until(lambda: no_mail_waits(running), bound=SLOW * 5)
    assert server.count("patient@example.org") == 1
    assert server.most <= CONCURRENCY * 2

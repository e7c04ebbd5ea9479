"""What the mailer does besides running: render, send-test, transports, doctor; the queue's are in `queue_commands`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import webbrowser
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from mailer.composition import make_delivery, open_renderer, open_transports
from mailer.errors import MailerError
from mailer.metrics import Metrics
from mailer.rendering import LOCALES
from mailer.settings import SERVICE, Settings, StoreSettings
from mailer.verdicts import Kind
from service_kit.cli import Cli
from service_kit.settings import Loaded
from shared_store.doctor import report
from shared_store.mail_jobs import MailJob, new_job_id
from shared_store.store import Store


def add_commands(cli: Cli[Settings]) -> None:
    """Add all of them to the command line."""
    rendering = cli.add_command("render", render, help="show the mail with made-up facts")
    rendering.add_argument("--locale", choices=LOCALES, default="en")
    rendering.add_argument("--html", action="store_true", help="print the HTML part instead of the text part")
    rendering.add_argument("--open", action="store_true", help="open the HTML part in a browser")
    testing = cli.add_command("send-test", send_test, help="send a mail with made-up facts")
    testing.add_argument("address", metavar="ADDRESS")
    testing.add_argument("--locale", choices=LOCALES, default="en")
    examining = cli.add_command_reading(
        StoreSettings, "doctor", examine_store, help="examine Redis; ends with 1 for warnings, 2 for errors"
    )
    examining.add_argument("--json", action="store_true", help="for machines")
    cli.add_command("transports", check_transports, help="check each transport without sending")


async def examine_store(loaded: Loaded[StoreSettings], arguments: argparse.Namespace) -> int:
    """Print what the doctor finds; 0 where all is fine, 1 for warnings, 2 for errors."""
    open_store = partial(Store.of, loaded.settings, client_name=SERVICE)
    text, code = await report(open_store, services=(SERVICE,), as_json=arguments.json)
    print(text)
    return code


def sample_job(*, to: str, locale: str) -> MailJob:
    """A job with made-up facts."""
    now = time.time()
    return MailJob(
        id=new_job_id(),
        to=to,
        locale=locale,
        site="https://shop.example",
        link="https://login.example/confirm?session=made-up&code=abcdef134567",
        code="abcdef134567",
        deadline=now + 780,
        expires_in=900,
        requested_at=now,
    )


async def render(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Print the mail, or open it."""
    job = sample_job(to="jane@example.org", locale=arguments.locale)
    mail = open_renderer(loaded.settings).render(job, now=job.requested_at)
    if arguments.open:
        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as file:
            file.write(mail.html)
        print(file.name)
        webbrowser.open(Path(file.name).as_uri())
    else:
        print(f"Subject: {mail.subject}\n")
        print(mail.html if arguments.html else mail.text)
    return 0


async def send_test(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Send a mail at once, past the queue; 1 where it was not accepted."""
    job = sample_job(to=arguments.address, locale=arguments.locale)
    mail = open_renderer(loaded.settings).render(job, now=job.requested_at)
    bound = loaded.settings.send_email_timeout
    async with open_transports(loaded.settings) as transports:
        delivery = make_delivery(loaded.settings, transports, Metrics(CollectorRegistry()))
        verdict = await delivery.attempt(mail, bound=bound, within=bound * len(transports))
    print(f"{verdict.kind.value} ({verdict.transport}: {verdict.reason})")
    return 0 if verdict.kind is Kind.DELIVERED else 1


async def check_transports(loaded: Loaded[Settings], _arguments: argparse.Namespace) -> int:
    """Check each transport; 1 where one doesn't work."""
    failed = 0
    async with open_transports(loaded.settings) as transports:
        for transport in transports:
            try:
                print(f"{transport.name}: {await transport.check()}")
            except MailerError as error:
                print(error, file=sys.stderr)
                failed = 1
    return failed

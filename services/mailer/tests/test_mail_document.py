"""The tables of docs/mail.md say what the code does with what servers, programs and providers answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from mailer.transports.http import Answer, HttpTransport
from mailer.transports.mailgun import MailgunTransport
from mailer.transports.postmark import PostmarkTransport
from mailer.transports.sendgrid import SendGridTransport
from mailer.transports.sendmail import judge_exit
from mailer.transports.ses import SesTransport
from mailer.transports.smtp_replies import judge_reply
from mailer.transports.webhook import WebhookTransport
from mailer.verdicts import Stage

PAGE = (Path(__file__).parents[3] / "docs" / "mail.md").read_text()
STAGES = "|".join(Stage)
REPLIES = re.findall(rf"^\| ({STAGES}) \| ([0-9]{{3}})(?: ([0-9.]+))? \| (\w+) \| (\w+) \|", PAGE, re.MULTILINE)
EXITS = re.findall(r"^\| ([0-9]+) \| (\w+) \| (\w+) \|", PAGE, re.MULTILINE)
ANSWERS = re.findall(r"^\| ([A-Za-z ]+) \| ([0-9]{3}) \| ([^|]*)\| (\w+) \| (\w+) \|", PAGE, re.MULTILINE)

PROVIDERS: dict[str, type[HttpTransport]] = {
    "Postmark": PostmarkTransport, "Mailgun": MailgunTransport, "SendGrid": SendGridTransport, "SES": SesTransport,
    "webhook": WebhookTransport,
}  # fmt: skip
BY_PROVIDER = [
    (name, status, said.strip(), outcome, fault)
    for named, status, said, outcome, fault in ANSWERS
    for name in PROVIDERS
    if name == named or (named.startswith("all") and name not in named)
]


def test_tables_are_found() -> None:
    assert len(REPLIES) > 20
    assert len(EXITS) == 5
    assert len(BY_PROVIDER) > 80


@pytest.mark.parametrize(("stage", "code", "enhanced", "outcome", "fault"), REPLIES)
def test_row_of_smtp_says_what_the_code_does(stage: str, code: str, enhanced: str, outcome: str, fault: str) -> None:
    verdict = judge_reply(Stage(stage), int(code), enhanced)
    assert (verdict.kind, verdict.fault) == (outcome, fault)


@pytest.mark.parametrize(("status", "outcome", "fault"), EXITS)
def test_row_of_sendmail_says_what_the_code_does(status: str, outcome: str, fault: str) -> None:
    verdict = judge_exit(int(status))
    assert (verdict.kind, verdict.fault) == (outcome, fault)


@pytest.mark.parametrize(("provider", "status", "said", "outcome", "fault"), BY_PROVIDER)
def test_row_of_a_mail_api_says_what_the_code_does(
    provider: str, status: str, said: str, outcome: str, fault: str
) -> None:
    transport = PROVIDERS[provider].__new__(PROVIDERS[provider])
    verdict = transport.judge(answer_of(provider, int(status), said))
    assert (verdict.kind, verdict.fault) == (outcome, fault)


def answer_of(provider: str, status: int, said: str) -> Answer:
    """An answer in the provider's form."""
    first, _, rest = said.partition(" ")
    body: object = {}
    headers = {}
    match provider if said else "":
        case "Postmark":
            body = {"ErrorCode": int(first), "Message": rest}
        case "Mailgun":
            body = {"message": said}
        case "SendGrid":
            body = {"errors": [{"message": "", "field": said}]}
        case "SES":
            body, headers = {"message": rest}, {"x-amzn-ErrorType": first}
    return Answer(httpx.Response(status, headers=headers), json.dumps(body).encode())

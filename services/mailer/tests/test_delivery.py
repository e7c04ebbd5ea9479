"""What replies mean, and which transport gets a mail."""

from __future__ import annotations

import pytest

from mailer.delivery import Delivery, Fault, Kind, Stage, Verdict, judge_loss, judge_reply, judge_status
from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient

D, A, G = Kind.DELIVERED, Kind.TRY_AGAIN, Kind.GIVE_UP
NONE, RECIPIENT, TRANSPORT, UNKNOWN = Fault.NONE, Fault.RECIPIENT, Fault.TRANSPORT, Fault.UNKNOWN
MAIL = Mail("id", Sender.of("N", parse_recipient("a@b.example")), parse_recipient("c@d.example"), "s", "t", "h", ())


@pytest.mark.parametrize(
    ("stage", "code", "text", "kind", "fault"),
    [
        (Stage.CONNECT, 554, "", A, TRANSPORT),
        (Stage.CONNECT, 421, "", A, TRANSPORT),
        (Stage.EHLO, 550, "", A, TRANSPORT),
        (Stage.TLS, 454, "", A, TRANSPORT),
        (Stage.AUTH, 535, "5.7.8 bad", A, TRANSPORT),
        (Stage.MAIL, 550, "", A, TRANSPORT),
        (Stage.MAIL, 451, "", A, TRANSPORT),
        (Stage.RCPT, 450, "4.2.1 grey", A, RECIPIENT),
        (Stage.RCPT, 421, "", A, TRANSPORT),
        (Stage.RCPT, 550, "5.1.1 no such user", G, RECIPIENT),
        (Stage.RCPT, 553, "", G, RECIPIENT),
        (Stage.RCPT, 530, "5.7.0 authenticate", A, TRANSPORT),
        (Stage.RCPT, 503, "", A, TRANSPORT),
        (Stage.DATA, 554, "", G, RECIPIENT),
        (Stage.DATA, 451, "", A, RECIPIENT),
        (Stage.CONTENT, 250, "2.0.0", D, NONE),
        (Stage.CONTENT, 452, "", A, RECIPIENT),
        (Stage.CONTENT, 421, "", A, TRANSPORT),
        (Stage.CONTENT, 554, "5.7.1 spam", G, RECIPIENT),
        (Stage.CONTENT, 354, "", A, TRANSPORT),
    ],
)
def test_reply_of_a_server_has_one_meaning(stage: Stage, code: int, text: str, kind: Kind, fault: Fault) -> None:
    verdict = judge_reply(stage, code, text)
    assert (verdict.kind, verdict.fault) == (kind, fault)


def test_reason_holds_the_codes_and_none_of_the_text() -> None:
    assert judge_reply(Stage.RCPT, 550, "5.1.1 <jane@example.org> unknown").reason == "rcpt 550 5.1.1"


def test_loss_after_the_content_is_unknown_and_before_it_is_not() -> None:
    assert judge_loss(Stage.CONTENT, "connection lost").fault is UNKNOWN
    assert {judge_loss(stage, "x").fault for stage in Stage if stage is not Stage.CONTENT} == {TRANSPORT}


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [
        (200, D, NONE), (202, D, NONE), (400, G, RECIPIENT), (422, G, RECIPIENT), (401, G, TRANSPORT),
        (403, G, TRANSPORT), (404, G, TRANSPORT), (402, G, TRANSPORT), (408, A, TRANSPORT), (429, A, TRANSPORT),
        (500, A, TRANSPORT), (503, A, TRANSPORT), (302, A, TRANSPORT),
    ],
)  # fmt: skip
def test_status_of_a_provider_has_one_meaning(status: int, kind: Kind, fault: Fault) -> None:
    verdict = judge_status(status)
    assert (verdict.kind, verdict.fault) == (kind, fault)


class Played:
    """A transport that gives a fixed verdict."""

    def __init__(self, name: str, kind: Kind, fault: Fault) -> None:
        self.name = name
        self._verdict = Verdict(kind, fault, "r")
        self.asked = 0

    async def send(self, mail: Mail, *, bound: float) -> Verdict:  # noqa: ARG002
        self.asked += 1
        return self._verdict

    async def check(self) -> str:
        return ""

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("first", "second", "kind", "transport"),
    [
        ((D, NONE), (D, NONE), D, "one"),
        ((A, TRANSPORT), (D, NONE), D, "two"),
        ((G, TRANSPORT), (D, NONE), D, "two"),
        ((G, RECIPIENT), (D, NONE), G, "one"),
        ((A, RECIPIENT), (D, NONE), A, "one"),
        ((A, UNKNOWN), (D, NONE), A, "one"),
        ((A, TRANSPORT), (G, TRANSPORT), A, "one"),
        ((G, TRANSPORT), (A, TRANSPORT), A, "two"),
        ((A, TRANSPORT), (G, RECIPIENT), G, "two"),
    ],
)
async def test_next_transport_is_tried_when_the_fault_is_a_transports(
    first: tuple[Kind, Fault], second: tuple[Kind, Fault], kind: Kind, transport: str
) -> None:
    one, two = Played("one", *first), Played("two", *second)
    verdict = await Delivery([one, two]).attempt(MAIL, bound=1, within=5)
    assert (verdict.kind, verdict.transport) == (kind, transport)
    assert (one.asked, two.asked) == (1, int(first[1] is TRANSPORT))


async def test_no_attempt_is_begun_when_no_time_is_left() -> None:
    one = Played("one", D, NONE)
    verdict = await Delivery([one]).attempt(MAIL, bound=1, within=0)
    assert (verdict.kind, one.asked) == (A, 0)

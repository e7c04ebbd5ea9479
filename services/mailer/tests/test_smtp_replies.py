"""What replies of mail servers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.transports.smtp_replies import judge_loss, judge_reply
from mailer.verdicts import Fault, Kind, Stage

D, A, G = Kind.DELIVERED, Kind.TRY_AGAIN, Kind.GIVE_UP
NONE, RECIPIENT, MAIL, TRANSPORT, UNKNOWN = Fault.NONE, Fault.RECIPIENT, Fault.MAIL, Fault.TRANSPORT, Fault.UNKNOWN


@pytest.mark.parametrize(
    ("stage", "code", "text", "kind", "fault"),
    [
        (Stage.CONNECT, 554, "5.7.1 blocked", A, TRANSPORT),
        (Stage.CONNECT, 421, "", A, TRANSPORT),
        (Stage.EHLO, 550, "", A, TRANSPORT),
        (Stage.TLS, 454, "", A, TRANSPORT),
        (Stage.AUTH, 535, "5.7.8 bad", A, TRANSPORT),
        (Stage.MAIL, 550, "5.7.1 not you", A, TRANSPORT),
        (Stage.MAIL, 451, "", A, TRANSPORT),
        (Stage.MAIL, 553, "5.1.8 no such sender", A, TRANSPORT),
        (Stage.MAIL, 552, "5.3.4 too big", G, MAIL),
        (Stage.MAIL, 553, "5.6.7 no SMTPUTF8", G, MAIL),
        (Stage.RCPT, 450, "4.2.1 busy", A, RECIPIENT),
        (Stage.RCPT, 450, "", A, RECIPIENT),
        (Stage.RCPT, 451, "4.7.1 greylisted", A, MAIL),
        (Stage.RCPT, 452, "4.2.2 mailbox full", A, RECIPIENT),
        (Stage.RCPT, 452, "4.3.1 out of storage", A, TRANSPORT),
        (Stage.RCPT, 452, "", A, TRANSPORT),
        (Stage.RCPT, 452, "4.5.3 too many recipients", A, TRANSPORT),
        (Stage.RCPT, 421, "4.2.1", A, TRANSPORT),
        (Stage.RCPT, 550, "5.1.1 no such user", G, RECIPIENT),
        (Stage.RCPT, 550, "", G, RECIPIENT),
        (Stage.RCPT, 550, "5.5.0 mailbox unavailable", G, RECIPIENT),
        (Stage.RCPT, 553, "", G, RECIPIENT),
        (Stage.RCPT, 556, "5.1.10 null MX", G, RECIPIENT),
        (Stage.RCPT, 552, "5.2.2 over quota", G, RECIPIENT),
        (Stage.RCPT, 550, "5.7.1 policy", G, MAIL),
        (Stage.RCPT, 554, "", G, MAIL),
        (Stage.RCPT, 554, "5.7.1 <jane@example.org>: Relay access denied", A, TRANSPORT),
        (Stage.RCPT, 550, "relay not permitted", A, TRANSPORT),
        (Stage.RCPT, 550, "5.7.1 Unable to relay", A, TRANSPORT),
        (Stage.RCPT, 550, "<relay denied@example.org> unknown", G, RECIPIENT),
        (Stage.RCPT, 530, "5.7.0 authenticate", A, TRANSPORT),
        (Stage.RCPT, 503, "5.5.1 order", A, TRANSPORT),
        (Stage.DATA, 554, "", G, MAIL),
        (Stage.DATA, 554, "5.5.1 order", A, TRANSPORT),
        (Stage.DATA, 451, "", A, MAIL),
        (Stage.CONTENT, 250, "2.0.0", D, NONE),
        (Stage.CONTENT, 452, "4.3.1 disk full", A, TRANSPORT),
        (Stage.CONTENT, 421, "", A, TRANSPORT),
        (Stage.CONTENT, 552, "5.2.2 over quota", G, RECIPIENT),
        (Stage.CONTENT, 554, "5.7.1 spam", G, MAIL),
        (Stage.CONTENT, 550, "5.1.1 unknown after all", G, RECIPIENT),
        (Stage.CONTENT, 354, "", A, TRANSPORT),
    ],
)
def test_reply_of_a_server_has_one_meaning(stage: Stage, code: int, text: str, kind: Kind, fault: Fault) -> None:
    verdict = judge_reply(stage, code, text)
    assert (verdict.kind, verdict.fault) == (kind, fault)


@given(st.sampled_from(Stage), st.integers(0, 999), st.text(max_size=60))
def test_any_reply_has_a_meaning_that_holds_none_of_its_text_and_gives_up_for_no_fault_of_a_transport(
    stage: Stage, code: int, text: str
) -> None:
    verdict = judge_reply(stage, code, "5.1.1 " + text)
    assert verdict.reason in (f"{stage} {code} 5.1.1", f"{stage} {code}")
    assert verdict.kind is not G or verdict.fault in (RECIPIENT, MAIL)
    assert (verdict.kind is D) == (stage is Stage.CONTENT and 200 <= code < 300)


def test_reason_holds_the_codes_and_none_of_the_text() -> None:
    assert judge_reply(Stage.RCPT, 550, "5.1.1 <jane@example.org> unknown").reason == "rcpt 550 5.1.1"


def test_hostile_reply_of_a_megabyte_is_judged_all_the_same() -> None:
    assert judge_reply(Stage.RCPT, 550, "not " * 250_000 + "<" * 250_000).fault is RECIPIENT


def test_loss_after_the_content_is_unknown_and_before_it_is_not() -> None:
    assert judge_loss(Stage.CONTENT, "connection lost").fault is UNKNOWN
    assert {judge_loss(stage, "x").fault for stage in Stage if stage is not Stage.CONTENT} == {TRANSPORT}

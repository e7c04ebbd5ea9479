"""What an SMTP reply means (RFC 5321 section 4.2, RFC 3463, RFC 5248); docs/mail.md has it as a table."""

from __future__ import annotations

import re

from mailer.verdicts import Fault, Kind, Stage, Verdict

# Up to here nothing has been said of the recipient.
_BEFORE_RECIPIENT = frozenset({Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH, Stage.MAIL})

# These speak of the server or of our standing with it, whatever their enhanced code: closing, commands and their order,
# a host that takes no mail, authentication or encryption wanted.
_OUR_CODES = frozenset({421, 454, 455, 500, 501, 502, 503, 504, 521, 530, 534, 535, 538, 555})

# By subject and detail of the enhanced code, else by its subject alone; others are judged by the plain code.
_ENHANCED_FAULTS = {
    "1": Fault.RECIPIENT,  # address
    "1.7": Fault.TRANSPORT,  # the sender's address
    "1.8": Fault.TRANSPORT,
    "2": Fault.RECIPIENT,  # mailbox: disabled, full
    "3": Fault.TRANSPORT,  # the mail system: full, not accepting, wrongly set up
    "3.4": Fault.MAIL,  # too big for it
    "4": Fault.RECIPIENT,  # network and routing, behind the server
    "5.1": Fault.TRANSPORT,  # protocol
    "5.2": Fault.TRANSPORT,
    "5.3": Fault.TRANSPORT,
    "5.4": Fault.TRANSPORT,
    "5.5": Fault.TRANSPORT,
    "6": Fault.MAIL,  # content, SMTPUTF8
    "7": Fault.MAIL,  # policy: greylisting, reputation, spam
    "7.8": Fault.TRANSPORT,  # our credentials
    "7.9": Fault.TRANSPORT,
    "7.14": Fault.TRANSPORT,
}
_CODE_FAULTS = {452: Fault.TRANSPORT, 554: Fault.MAIL}  # storage of the server; "transaction failed"

_ENHANCED = re.compile(r"[245]\.([0-9]{1,3})\.([0-9]{1,3})\b")
_ADDRESS = re.compile(r"<[^>]*>?")
_NO_RELAY = re.compile(
    r"relay(ing)?( access)? (is )?(denied|not (permitted|allowed))|(not|unable)[a-z ]{0,20} to relay", re.IGNORECASE
)
_LOOKED_AT = 500  # characters of a reply in which that is looked for


def judge_reply(stage: Stage, code: int, text: str = "") -> Verdict:
    """Say what a reply at a stage means."""
    enhanced = _ENHANCED.match(text)
    reason = f"{stage} {code}" + (f" {enhanced[0]}" if enhanced else "")
    if stage is Stage.CONTENT and 200 <= code < 300:
        return Verdict(Kind.DELIVERED, Fault.NONE, reason)
    if not 400 <= code < 600:
        return Verdict(Kind.TRY_AGAIN, Fault.TRANSPORT, reason)
    fault = _fault(stage, code, enhanced, text)
    final = code >= 500 and fault in (Fault.RECIPIENT, Fault.MAIL)
    refused_us = stage is Stage.AUTH and code >= 500
    return Verdict(Kind.GIVE_UP if final else Kind.TRY_AGAIN, fault, reason, for_all=refused_us)


def _fault(stage: Stage, code: int, enhanced: re.Match[str] | None, text: str) -> Fault:
    named = None
    if enhanced:
        subject, detail = enhanced.groups()
        named = _ENHANCED_FAULTS.get(f"{subject}.{detail}") or _ENHANCED_FAULTS.get(subject)
    if stage in _BEFORE_RECIPIENT:
        of_this_mail = stage is Stage.MAIL and enhanced and (enhanced[0][2:] == "3.4" or enhanced[1] == "6")
        return Fault.MAIL if of_this_mail else Fault.TRANSPORT
    if code in _OUR_CODES or _NO_RELAY.search(_ADDRESS.sub("", text[:_LOOKED_AT])):
        return Fault.TRANSPORT
    if named is not None:
        return named
    return _CODE_FAULTS.get(code, Fault.RECIPIENT if stage is Stage.RCPT else Fault.MAIL)


def judge_loss(stage: Stage, why: str) -> Verdict:
    """Say what it means that the conversation broke off, or was too slow, at a stage."""
    fault = Fault.UNKNOWN if stage is Stage.CONTENT else Fault.TRANSPORT
    return Verdict(Kind.TRY_AGAIN, fault, f"{stage} {why}")

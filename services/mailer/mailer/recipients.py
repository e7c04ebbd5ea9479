"""A mail's recipient, read again at the edge: what goes into an SMTP command or a header is made here and only here."""

from __future__ import annotations

import re
from dataclasses import dataclass

import idna

from mailer.errors import MalformedMailError

MOST_ADDRESS, MOST_LOCAL = 254, 64  # octets, RFC 5321 section 4.5.3.1

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a0-\U0010ffff]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_ATOMS = re.compile(rf"(?:{_ATOM}|\.)+")  # dots where they may not be: some providers gave out such addresses
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~\u00a0-\U0010ffff]|\\[ -~])*"')
# Mail servers may read another address out of such a local part, and deliver there (user%host, host!user, "user@host");
# mail APIs read recipients from a header's text.
_ROUTE = re.compile(r"[%!@<>,:;]|=\?")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Recipient:
    """An address that holds no control character, no line break, and nothing that leads to another domain than its own.

    Attributes:
        address: as it stands in an SMTP command and in the To header, quoted where that is needed.
        needs_smtputf8: whether only a server with SMTPUTF8 (RFC 6531) can take it.
    """

    address: str
    needs_smtputf8: bool


def parse_recipient(text: str) -> Recipient:
    """Read an address.

    Raises:
        MalformedMailError: it can't be mailed to.
    """
    local, at, domain = text.rpartition("@")
    domain = _ascii_domain(domain)
    too_long = len(local.encode("utf-8", "replace")) > MOST_LOCAL or len(text) > MOST_ADDRESS
    sound = _ATOMS.fullmatch(local) or _QUOTED_STRING.fullmatch(local)
    if not at or too_long or not sound or not local.isprintable() or _ROUTE.search(local):
        raise MalformedMailError("the address can't be used in a mail")
    if local[0] != '"' and not _DOT_ATOM.fullmatch(local):
        local = f'"{local}"'
    return Recipient(f"{local}@{domain}", not local.isascii())


def _ascii_domain(domain: str) -> str:
    """The domain in A-labels, which every server takes, as browsers and auth-api have it (UTS #46)."""
    try:
        ascii_domain = domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        ascii_domain = ""
    if not _DOMAIN.fullmatch(ascii_domain):
        raise MalformedMailError("the address has no domain that can be mailed to")
    return ascii_domain

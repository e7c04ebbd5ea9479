"""E-mail addresses: what one is, and the one form under which it is counted, proved and signed.

Whether a domain exists or is allowed is decided elsewhere.
"""

import re
import unicodedata
from dataclasses import dataclass

from auth_api import domains
from auth_api.errors import AddressProblem, InvalidAddressError, InvalidDomainError

MAX_ADDRESS_LENGTH = 254
MAX_LOCAL_PART_LENGTH = 64
_MAX_INPUT_LENGTH = 1000

# RFC 5321 §4.1.2 with the non-ASCII characters of RFC 6531 §3.3. Dots may stand anywhere: some old
# providers gave out such addresses, and HTML's type=email accepts them.
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\U0010ffff-]+")
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"')
_ROUTE = re.compile(r"[%!@<>,:;]|=\?")
_REFUSED_CATEGORIES = {"Cc", "Cs", "Zl", "Zp", "Zs"}
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """A valid address, made by `parse_address`; as text, and in comparisons by `str`, it is normalised."""

    local: str
    domain: str
    original: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def parse_address(text: str) -> EmailAddress:
    """Read one bare address: no display name, comment, domain literal or surrounding white space.

    Raises:
        InvalidAddressError: it is none; `problem` says why. Nothing else is raised, whatever the text.
    """
    if len(text) > _MAX_INPUT_LENGTH:
        raise InvalidAddressError(AddressProblem.TOO_LONG)
    local, at_sign, domain = text.rpartition("@")
    if not at_sign:
        raise InvalidAddressError(AddressProblem.NO_AT_SIGN)
    address = EmailAddress(_normalize_local_part(local), _normalize_mail_domain(domain), text)
    if len(str(address).encode()) > MAX_ADDRESS_LENGTH:
        raise InvalidAddressError(AddressProblem.TOO_LONG)
    return address


def google_form(address: EmailAddress) -> str:
    """The form in which two addresses of one Google account are equal; for comparing only.

    Dots mean nothing at gmail.com alone: in a company's domain they tell two people apart.
    """
    domain = "gmail.com" if address.domain == "googlemail.com" else address.domain
    local = address.local.partition("+")[0]
    if domain == "gmail.com":
        local = local.replace(".", "")
    return f"{local}@{domain}"


def may_be_routed(address: EmailAddress) -> bool:
    """Whether mail servers may read another address out of the local part and deliver there (RFC 5321 appendix C).

    Postfix does by its defaults for user%host, host!user and "user@host" where it is the domain's own server; mail APIs
    read their recipients from a header's text. Who reads the code there would have proved an address of this domain.
    """
    return bool(_ROUTE.search(address.local))


def display_address(address: EmailAddress) -> str:
    """The normalised address with its domain in Unicode, where that is safe to read."""
    return f"{address.local}@{domains.to_display(address.domain)}"


def normalize_domain(text: str) -> str:
    """A mail domain of the configuration in the form of `EmailAddress.domain`.

    Raises:
        InvalidDomainError: no address can have this domain.
    """
    try:
        return _normalize_mail_domain(text.strip())
    except InvalidAddressError as error:
        raise InvalidDomainError(f"{text.strip()!r} is no mail domain: {error}") from error


def _normalize_local_part(local: str) -> str:
    if not local:
        raise InvalidAddressError(AddressProblem.NO_LOCAL_PART)
    if not (_ATOM.fullmatch(local) or _QUOTED_STRING.fullmatch(local)) or not all(map(_is_readable, local)):
        raise InvalidAddressError(AddressProblem.LOCAL_PART_CHARACTERS)
    normalized = local.lower()
    if len(normalized.encode()) > MAX_LOCAL_PART_LENGTH:
        raise InvalidAddressError(AddressProblem.LOCAL_PART_TOO_LONG)
    return normalized


def _is_readable(character: str) -> bool:
    if character.isascii():
        return True
    return character not in _BIDI_CONTROLS and unicodedata.category(character) not in _REFUSED_CATEGORIES


def _normalize_mail_domain(text: str) -> str:
    if not text:
        raise InvalidAddressError(AddressProblem.NO_DOMAIN)
    if text.startswith("["):
        raise InvalidAddressError(AddressProblem.IP_ADDRESS)
    try:
        domain = domains.to_ascii(text)
    except InvalidDomainError as error:
        raise InvalidAddressError(AddressProblem.DOMAIN) from error
    if domains.ends_in_a_number(domain):
        raise InvalidAddressError(AddressProblem.IP_ADDRESS)
    if "." not in domain:
        raise InvalidAddressError(AddressProblem.ONE_LABEL)
    return domain

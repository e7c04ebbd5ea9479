"""Domain names as browsers read them (UTS #46, non-transitional): to ASCII, and back for people to read.

`idna.encode` is stricter than browsers (it refuses symbols and old scripts that they accept), so the
mapping is the library's and the checks of labels are those of the URL standard's "domain to ASCII".
"""

import re
import unicodedata

import idna

from auth_api.errors import InvalidDomainError

MAX_DOMAIN_LENGTH = 253
MAX_LABEL_LENGTH = 63
_MAX_INPUT_LENGTH = 1000

_ASCII_LABEL = re.compile(r"[a-z0-9_-]+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCRIPTS_LIKE_LATIN = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")
# A label of these alone reads as a Latin word though it has no Latin letter; browsers show it in Punycode, too.
_LETTERS_LIKE_LATIN = frozenset("асԁеһіјӏорԛѕԝхуъьҽпгѵѡαικνρυωηοτ-0123456789")


def to_ascii(text: str) -> str:
    """Normalise a domain to lower-case A-labels; the result is unchanged by a second call.

    Raises:
        InvalidDomainError: a browser would refuse it, it is too long, or a label is empty or has
            other ASCII characters than letters, digits, `-` and `_`.
    """
    if not text or len(text) > _MAX_INPUT_LENGTH:
        raise InvalidDomainError("the domain is empty or too long")
    try:
        mapped = _split(idna.uts46_remap(text, std3_rules=False))
        is_bidi = any(_is_right_to_left(_to_unicode_label(label)) for label in mapped)
        labels = [_label_to_ascii(label, is_bidi=is_bidi) for label in mapped]
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidDomainError("a label has characters that are not allowed there") from error
    domain = ".".join(labels)
    if len(domain) > MAX_DOMAIN_LENGTH:
        raise InvalidDomainError(f"the domain is longer than {MAX_DOMAIN_LENGTH} characters")
    return domain


def ends_in_a_number(domain: str) -> bool:
    """Whether browsers take this ASCII domain for an IPv4 address (URL standard: "ends in a number")."""
    return bool(_NUMBER.fullmatch(domain.rpartition(".")[2]))


def to_display(domain: str) -> str:
    """The Unicode form of an ASCII domain, label by label, where it cannot be taken for another one.

    A label stays as it is when it does not come back unchanged under the strict IDNA 2008 rules, mixes Latin
    letters with a script that looks like them, or, below a Latin top-level domain, has only letters that look so.
    """
    labels = domain.split(".")
    latin_top = not labels[-1].startswith("xn--")
    return ".".join(_display_label(label, latin_top=latin_top) for label in labels)


def _split(mapped: str) -> list[str]:
    """Give the labels. Punycode is never shorter than its label, and CPython's takes quadratic time: bounded before."""
    labels = mapped.split(".")
    if len(mapped) > MAX_DOMAIN_LENGTH or any(len(label) > MAX_LABEL_LENGTH for label in labels):
        raise InvalidDomainError("a label, or the whole, is too long")
    return labels


def _label_to_ascii(label: str, *, is_bidi: bool) -> str:
    unicode_label = _to_unicode_label(label)
    if unicode_label.isascii():
        ascii_label = label
        if not _ASCII_LABEL.fullmatch(label) or label.startswith("xn--"):
            raise InvalidDomainError("a label is empty or has characters that are not allowed there")
    else:
        _check_unicode_label(unicode_label)
        ascii_label = "xn--" + unicode_label.encode("punycode").decode("ascii")
        if label.isascii() and label != ascii_label:
            raise InvalidDomainError("a label is not the Punycode of what it stands for")
    if is_bidi:
        idna.check_bidi(unicode_label, check_ltr=True)
    if len(ascii_label) > MAX_LABEL_LENGTH:
        raise InvalidDomainError(f"a label is longer than {MAX_LABEL_LENGTH} characters")
    return ascii_label


def _to_unicode_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    return label[4:].encode("ascii").decode("punycode")


def _check_unicode_label(label: str) -> None:
    """The validity criteria of UTS #46 §4.1, with CheckHyphens off as in browsers."""
    if label.startswith("xn--") or unicodedata.category(label[0]).startswith("M"):
        raise InvalidDomainError("a label begins with characters that may not stand there")
    # What this Python's Unicode does not know yet cannot be normalised with certainty.
    if any(unicodedata.category(character) == "Cn" for character in label):
        raise InvalidDomainError("a label has characters that are too new")
    if "." in label or idna.uts46_remap(label, std3_rules=False) != label:
        raise InvalidDomainError("a label has characters that are not allowed there")
    if not all(_ASCII_LABEL.fullmatch(character) for character in label if character.isascii()):
        raise InvalidDomainError("a label has characters that are not allowed there")
    for position, character in enumerate(label):
        if character in "\u200c\u200d" and not idna.valid_contextj(label, position):
            raise InvalidDomainError("a label has a joiner where it means nothing")


def _is_right_to_left(label: str) -> bool:
    return any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in label)


def _display_label(label: str, *, latin_top: bool) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        unicode_label = idna.decode(label)
        if idna.encode(unicode_label).decode("ascii") != label:
            return label
    except (idna.IDNAError, UnicodeError):
        return label
    if latin_top and _LETTERS_LIKE_LATIN.issuperset(unicode_label):
        return label
    scripts = {unicodedata.name(character, "").partition(" ")[0] for character in unicode_label}
    mixes_lookalikes = "LATIN" in scripts and not scripts.isdisjoint(_SCRIPTS_LIKE_LATIN)
    return label if mixes_lookalikes else unicode_label

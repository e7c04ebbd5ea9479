import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from auth_api.addresses import (
    EmailAddress,
    display_address,
    google_form,
    normalize_domain,
    parse_address,
)
from auth_api.domains import to_ascii
from auth_api.errors import AddressProblem, InvalidAddressError, InvalidDomainError

VALID = {
    # the contract's own table
    "EXAMPLE.FOO+BAR@EXAMPLE.COM": "example.foo+bar@example.com",
    "BJÖRN@göteborg.test": "björn@xn--gteborg-90a.test",
    "İⅢ@İⅢ.example": "i̇ⅲ@xn--iiii-qwc.example",
    '"ex@mple"@example.com': '"ex@mple"@example.com',
    # local parts
    "a@b.cd": "a@b.cd",
    "o'neil@example.com": "o'neil@example.com",
    "user+tag+tag@example.com": "user+tag+tag@example.com",
    "!#$%&'*+-/=?^_`{|}~@example.com": "!#$%&'*+-/=?^_`{|}~@example.com",
    "first..last@example.com": "first..last@example.com",
    "last.@example.com": "last.@example.com",
    "1234567890@example.com": "1234567890@example.com",
    '"John Doe"@example.com': '"john doe"@example.com',
    '"a\\"b"@example.com': '"a\\"b"@example.com',
    '"a\\@b"@example.com': '"a\\@b"@example.com',
    '""@example.com': '""@example.com',
    '"very.(),:;<>[]\\".VERY"@example.com': '"very.(),:;<>[]\\".very"@example.com',
    "用户@例子.广告": "用户@xn--fsqu00a.xn--4rr70v",
    "अजय@डाटा.भारत": "अजय@xn--c2bd1gb.xn--h2brj9c",
    "квіточка@пошта.укр": "квіточка@xn--80a1acn3a.xn--j1amh",
    "ΧΡΉΣΤΗΣ@παράδειγμα.ελ": "χρήστης@xn--hxajbheg2az3al.xn--qxam",
    "Dörte@Sörensen.example.com": "dörte@xn--srensen-90a.example.com",
    "коля@пример.рф": "коля@xn--e1afmkfd.xn--p1ai",
    "чебурашка@ящик-с-апельсинами.рф": "чебурашка@xn-----8kcayoeblonkwzf2jqc1b.xn--p1ai",
    "我買@屋企.香港": "我買@xn--hoqu73a.xn--j6w193g",
    "甲斐@黒川.日本": "甲斐@xn--5rtw95l.xn--wgv71a",
    "محمد@مثال.السعودية": "محمد@xn--mgbh0fb.xn--mgberp4a5d4ar",
    "x" * 64 + "@example.com": "x" * 64 + "@example.com",
    "é" * 32 + "@example.com": "é" * 32 + "@example.com",
    # domains
    "a@EXAMPLE.Com": "a@example.com",
    "a@sub.sub.example.co.uk": "a@sub.sub.example.co.uk",
    "a@straße.de": "a@xn--strae-oqa.de",
    "a@STRASSE.de": "a@strasse.de",
    "a@ｅｘａｍｐｌｅ.com": "a@example.com",
    "a@example。com": "a@example.com",
    "a@例え。テスト": "a@xn--r8jz45g.xn--zckzah",
    "a@☃.net": "a@xn--n3h.net",
    "a@I❤.ws": "a@xn--i-7iq.ws",
    "a@xn--n3h.net": "a@xn--n3h.net",
    "a@XN--GTEBORG-90A.test": "a@xn--gteborg-90a.test",
    "a@ex\u00adample.com": "a@example.com",
    "a@βόλος.com": "a@xn--nxasmm1c.com",
    "a@ΒΌΛΟΣ.com": "a@xn--nxasmq6b.com",
    "a@אבג.com": "a@xn--4dbcd.com",
    "a@א1.com": "a@xn--1-zhc.com",  # right to left: a number may end it
    "a@💩.la": "a@xn--ls8h.la",
    "a@☕\ufe0f.example": "a@xn--53h.example",  # the variation selector says nothing
    "a@क्\u200dष.example": "a@xn--11b2ezcw70k.example",  # a joiner where it means something
    "a@نامه\u200cای.com": "a@xn--mgba3gch31f060k.com",  # a non-joiner likewise
    "a@a．b｡com": "a@a.b.com",  # full-width and half-width dots
    "a@faß.de": "a@xn--fa-hia.de",
    "a@σς.gr": "a@xn--3xab.gr",
    "a@ΌΣΟΣ.gr": "a@xn--0xahb7a.gr",
    "a@e\u0301.com": "a@xn--9ca.com",  # a combining mark after its letter is the letter
    "a@\u1112\u1161\u11ab.kr": "a@xn--6q8b.kr",
    "a@a\u2060b.com": "a@ab.com",
    "a@ﬃ.com": "a@ffi.com",
    "a@①.com": "a@1.com",
    "a@\u212aelvin.com": "a@kelvin.com",
    "e\u0301@example.com": "e\u0301@example.com",  # a local part is lower-cased and else kept
    "STRAẞE@example.com": "straße@example.com",
    "👩\u200d🚀@example.com": "👩\u200d🚀@example.com",
    "a@my_host.example.com": "a@my_host.example.com",
    "a@-dash-.example.com": "a@-dash-.example.com",
    "a@a--b.example.com": "a@a--b.example.com",
    "a@1.2.3.4.example": "a@1.2.3.4.example",
    "a@123.com": "a@123.com",
    f"a@{'b' * 63}.com": f"a@{'b' * 63}.com",
    f"a@{'.'.join(['b' * 49] * 5)}.c": f"a@{'.'.join(['b' * 49] * 5)}.c",
}

INVALID = {
    "": AddressProblem.NO_AT_SIGN,
    "foo": AddressProblem.NO_AT_SIGN,
    "foo＠example.com": AddressProblem.NO_AT_SIGN,
    "@": AddressProblem.NO_LOCAL_PART,
    "@foo.example": AddressProblem.NO_LOCAL_PART,
    "foo@": AddressProblem.NO_DOMAIN,
    "foo@localhost": AddressProblem.ONE_LABEL,
    "foo@127.0.0.1": AddressProblem.IP_ADDRESS,
    "foo@[::1]": AddressProblem.IP_ADDRESS,
    "foo@[127.0.0.1]": AddressProblem.IP_ADDRESS,
    "foo@127.1": AddressProblem.IP_ADDRESS,
    "foo@example.1": AddressProblem.IP_ADDRESS,
    "foo@example.0x7f": AddressProblem.IP_ADDRESS,
    "foo@example.0x": AddressProblem.IP_ADDRESS,
    "foo@１２７.０.０.１": AddressProblem.IP_ADDRESS,
    "foo@2130706433": AddressProblem.IP_ADDRESS,
    "foo@example.com.": AddressProblem.DOMAIN,
    "foo@.example.com": AddressProblem.DOMAIN,
    "foo@example..com": AddressProblem.DOMAIN,
    "foo@.": AddressProblem.DOMAIN,
    "foo@exa mple.com": AddressProblem.DOMAIN,
    "foo@example.com ": AddressProblem.DOMAIN,
    "foo@example.com\n": AddressProblem.DOMAIN,
    "foo@example.com\r\nBcc: x": AddressProblem.DOMAIN,
    "foo@exam\0ple.com": AddressProblem.DOMAIN,
    "foo@exam\tple.com": AddressProblem.DOMAIN,
    "foo@exam#ple.com": AddressProblem.DOMAIN,
    "foo@exam%70le.com": AddressProblem.DOMAIN,
    "foo@example.com/x": AddressProblem.DOMAIN,
    "foo@example.com:25": AddressProblem.DOMAIN,
    "foo@exam?ple.com": AddressProblem.DOMAIN,
    "foo@exam\\ple.com": AddressProblem.DOMAIN,
    "foo@exam]ple.com": AddressProblem.DOMAIN,
    "foo@example.com>": AddressProblem.DOMAIN,
    "foo@example.com,": AddressProblem.DOMAIN,
    "foo@example.com(comment)": AddressProblem.DOMAIN,
    "foo@example＠com.example": AddressProblem.DOMAIN,
    "foo@example／com.example": AddressProblem.DOMAIN,
    "foo@℀.example": AddressProblem.DOMAIN,
    "foo@\u00ad.example": AddressProblem.DOMAIN,
    "foo@xn--.example": AddressProblem.DOMAIN,
    "foo@xn--a.example": AddressProblem.DOMAIN,
    "foo@xn--example-.com": AddressProblem.DOMAIN,
    "foo@xn--zzzzzzzzzz99999.example": AddressProblem.DOMAIN,
    "foo@xn--ß.example": AddressProblem.DOMAIN,
    "foo@\u0301a.example": AddressProblem.DOMAIN,
    "foo@a\u200db.example": AddressProblem.DOMAIN,
    "foo@क\u200cष.example": AddressProblem.DOMAIN,
    "foo@👨\u200d👩\u200d👧.example": AddressProblem.DOMAIN,
    "foo@\u0903a.com": AddressProblem.DOMAIN,
    "foo@ﷺ.example": AddressProblem.DOMAIN,
    "foo@a.١": AddressProblem.DOMAIN,
    "foo@example.com..": AddressProblem.DOMAIN,
    "foo@example.com。": AddressProblem.DOMAIN,
    "foo@1.2.3.4.": AddressProblem.DOMAIN,
    "foo@a.b.c.0X1F": AddressProblem.IP_ADDRESS,
    "foo@a.４": AddressProblem.IP_ADDRESS,
    "foo@1.אב": AddressProblem.DOMAIN,
    "foo@אa.example": AddressProblem.DOMAIN,
    "foo@\u202eexample.com": AddressProblem.DOMAIN,
    "foo@exam\ud800ple.com": AddressProblem.DOMAIN,
    f"foo@{'b' * 64}.com": AddressProblem.DOMAIN,
    f"foo@{'ü' * 60}.com": AddressProblem.DOMAIN,
    f"foo@{'.'.join(['b' * 60] * 5)}.com": AddressProblem.DOMAIN,
    "John <john@example.com>": AddressProblem.LOCAL_PART_CHARACTERS,
    "John Doe john@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    " foo@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a@b@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a,b@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\nb@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\r\nRCPT TO:<x>@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    '"a\nb"@example.com': AddressProblem.LOCAL_PART_CHARACTERS,
    '"a"b"@example.com': AddressProblem.LOCAL_PART_CHARACTERS,
    '"a\\"@example.com': AddressProblem.LOCAL_PART_CHARACTERS,
    '"@example.com': AddressProblem.LOCAL_PART_CHARACTERS,
    '"a"b@example.com': AddressProblem.LOCAL_PART_CHARACTERS,
    "a\0@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\x7f@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\x85@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\u2028@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\u00a0b@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\u202eb@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "a\udc80@example.com": AddressProblem.LOCAL_PART_CHARACTERS,
    "x" * 65 + "@example.com": AddressProblem.LOCAL_PART_TOO_LONG,
    "é" * 33 + "@example.com": AddressProblem.LOCAL_PART_TOO_LONG,
    "x" * 64 + f"@{'.'.join(['b' * 60] * 3)}.commerce": AddressProblem.TOO_LONG,
    "x" * 100_000 + "@example.com": AddressProblem.TOO_LONG,
}


@pytest.mark.parametrize(("typed", "normalized"), VALID.items(), ids=map(ascii, VALID))
def test_valid_address_is_normalised_and_kept_as_typed(typed: str, normalized: str) -> None:
    address = parse_address(typed)
    assert str(address) == normalized
    assert address.original == typed


@pytest.mark.parametrize(("typed", "problem"), INVALID.items(), ids=(ascii(text)[:60] for text in INVALID))
def test_invalid_address_is_refused_for_the_right_reason(typed: str, problem: AddressProblem) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        parse_address(typed)
    assert caught.value.problem is problem


def _parse_or_none(text: str) -> EmailAddress | None:
    try:
        return parse_address(text)
    except InvalidAddressError:
        return None


@settings(deadline=None)
@given(st.one_of(st.text(), st.builds("{}@{}.{}".format, st.text(), st.text(), st.text())))
@example("K@K.example")
@example("\u1e9e@\u1e9e.example")
def test_any_text_is_an_address_within_the_limits_or_refused(text: str) -> None:
    address = _parse_or_none(text)
    if address is None:
        return
    assert address.domain.isascii()
    assert address.domain == address.domain.lower()
    assert all(0 < len(label) <= 63 for label in address.domain.split("."))
    assert len(address.local.encode()) <= 64
    assert len(str(address).encode()) <= 254
    assert str(parse_address(str(address))) == str(address)
    assert "\n" not in display_address(address)


LETTERS = st.text(st.characters(categories=("L", "N", "M", "S")), min_size=1, max_size=8)


@settings(deadline=None)
@given(LETTERS, LETTERS, LETTERS)
def test_normalising_an_international_address_twice_changes_nothing(a: str, b: str, c: str) -> None:
    address = _parse_or_none(f"{a}@{b}.{c}")
    assume(address is not None)
    assert address is not None
    again = parse_address(str(address))
    assert (again.local, again.domain) == (address.local, address.domain)


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("First.Last+news@googlemail.com", "firstlast@gmail.com"),
        ("firstlast@gmail.com", "firstlast@gmail.com"),
        ("first.last+x@company.example", "first.last@company.example"),
    ],
)
def test_google_form_unites_the_spellings_of_one_account(address: str, form: str) -> None:
    assert google_form(parse_address(address)) == form


def test_dots_tell_two_people_of_a_company_apart() -> None:
    forms = {google_form(parse_address(text)) for text in ("ab.c@company.example", "a.bc@company.example")}
    assert len(forms) == 2


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("a@göteborg.test", "a@göteborg.test"),
        ("a@xn--4dbcd.com", "a@אבג.com"),
        ("a@xn--pple-43d.com", "a@xn--pple-43d.com"),  # the first letter of apple is Cyrillic
        ("a@xn--n3h.net", "a@xn--n3h.net"),  # a symbol: valid for browsers, not in IDNA 2008
        ("a@example.com", "a@example.com"),
    ],
)
def test_domain_is_shown_in_unicode_only_where_it_cannot_deceive(typed: str, shown: str) -> None:
    assert display_address(parse_address(typed)) == shown


def test_configured_domain_is_read_like_the_domain_of_an_address() -> None:
    assert normalize_domain(" GÖTEBORG.test\n") == parse_address("a@göteborg.test").domain
    for text in ("", "localhost", "a@example.com", "127.0.0.1", "*.example.com"):
        with pytest.raises(InvalidDomainError):
            normalize_domain(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_domain_or_refused(text: str) -> None:
    try:
        domain = to_ascii(text)
    except InvalidDomainError:
        return
    assert to_ascii(domain) == domain

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth_api.errors import InvalidOriginError
from auth_api.oidc.origins import display_origin, parse_origin, parse_redirect_uri

GOOD = {
    "https://rp.example": "https://rp.example",
    "https://rp.example/": "https://rp.example",
    "https://rp.example/callback": "https://rp.example",
    "https://rp.example/callback?a=b&c=%20d": "https://rp.example",
    "https://rp.example/a/../b//c;d=e,f/@x:y": "https://rp.example",
    "https://rp.example/?next=https://other.example/": "https://rp.example",
    "https://rp.example:8443/cb": "https://rp.example:8443",
    "http://rp.example:443/cb": "http://rp.example:443",
    "https://rp.example:80/cb": "https://rp.example:80",
    "http://localhost:8000/cb": "http://localhost:8000",
    "http://my_app:3000/cb": "http://my_app:3000",
    "http://127.0.0.1:44133/verify": "http://127.0.0.1:44133",
    "http://[::1]:3000/cb": "http://[::1]:3000",
    "http://[2001:db8::1]": "http://[2001:db8::1]",
    "https://xn--gteborg-90a.test/cb": "https://xn--gteborg-90a.test",
    "https://xn--n3h.net/cb": "https://xn--n3h.net",
    "https://a--b.example/": "https://a--b.example",
}

HOSTILE = [
    "",
    "/callback",
    "//rp.example/",
    "rp.example",
    "https:",
    "https:rp.example",
    "https:/rp.example/",
    "https://",
    "https:///rp.example/",
    "https://?x",
    "https://:443/",
    "HTTPS://rp.example/",
    "ftp://rp.example/",
    "javascript://rp.example/%0aalert(1)",
    "data:text/html,x",
    "myapp://callback",
    " https://rp.example/",
    "https://rp.example/ ",
    "https://rp.example/\n",
    "\thttps://rp.example/",
    "ht\ttps://rp.example/",
    "https://rp.exa\tmple/",
    "https://rp.exa\nmple/",
    "https://rp.example/a\r\nSet-Cookie: x=y",
    "https://rp.example/a\tb",
    "https://rp.example\0/",
    "https://rp.example/\x7f",
    "https:\\\\rp.example\\",
    "https://rp.example\\@evil.example/",
    "https://rp.example\\.evil.example/",
    "https://rp.example/a\\b",
    "https:/\\rp.example/",
    "https://user@rp.example/",
    "https://user:password@rp.example/",
    "https://@rp.example/",
    "https://:@rp.example/",
    "https://rp.example@evil.example/",
    "https://rp.example%40evil.example/",
    "https://rp%2eexample/",
    "https://%72p.example/",
    "https://rp.example%00.evil.example/",
    "https://rp.example?x=y",
    "https://rp.example#f",
    "https://rp.example/#f",
    "https://rp.example/cb#",
    "https://rp.example/cb?a#b",
    "https://RP.example/",
    "https://göteborg.test/",
    "https://ｒｐ.example/",
    "https://rp。example/",
    "https://rp.exam\u00adple/",
    "https://rp.example\uff0fevil.example/",
    "https://\u2100.example/",
    "https://xn--/",
    "https://xn--a.example/",
    "https://XN--GTEBORG-90A.test/",
    "https://rp..example/",
    "https://.example/",
    "https://rp.example./",
    "https://rp.example,evil.example/",
    "https://rp.example;evil.example/",
    "https://rp example/",
    "https://rp<example/",
    "https://*.example/",
    f"https://{'a' * 64}.example/",
    f"https://{'a.' * 127}example/",
    "https://rp.example:/",
    "https://rp.example:0/",
    "https://rp.example:00443/",
    "https://rp.example:443/",
    "http://rp.example:80/",
    "https://rp.example:08443/",
    "https://rp.example:65536/",
    "https://rp.example:99999999999999999999/",
    "https://rp.example:-1/",
    "https://rp.example:+8443/",
    "https://rp.example:8443x/",
    "https://rp.example:８４４３/",
    "https://rp.example:8443:1/",
    "http://127.1/",
    "http://127.0.0.01/",
    "http://0x7f.0.0.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://017700000001/",
    "http://256.1.1.1/",
    "http://1.2.3.4.5/",
    "http://rp.example.1/",
    "http://rp.0x1/",
    "http://[::1/",
    "http://::1/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::0001]/",
    "http://[::FFFF]/",
    "http://[fe80::1%25eth0]/",
    "http://[::1%eth0]/",
    "http://[::127.0.0.1]/",
    "http://[v1.x]/",
    "http://[::1]evil.example/",
    "http://[]/",
    "https://rp.example/%",
    "https://rp.example/%zz",
    "https://rp.example/ü",
    "https://rp.example/a b",
    'https://rp.example/"><script>',
    "https://rp.example/{x}",
    "https://rp.example/\ud800",
    "https://rp.example/" + "a" * 2048,
]


@pytest.mark.parametrize(("text", "origin"), GOOD.items())
def test_redirect_uri_is_kept_and_its_origin_known(text: str, origin: str) -> None:
    redirect_uri = parse_redirect_uri(text)
    assert str(redirect_uri) == text
    assert str(redirect_uri.origin) == origin
    assert parse_origin(origin) == redirect_uri.origin


@pytest.mark.parametrize("text", HOSTILE, ids=(ascii(text)[:60] for text in HOSTILE))
def test_hostile_redirect_uri_is_refused(text: str) -> None:
    with pytest.raises(InvalidOriginError):
        parse_redirect_uri(text)


@pytest.mark.parametrize("text", ["https://rp.example/", "https://rp.example?", "https://rp.example/x", "null"])
def test_origin_is_nothing_but_the_origin(text: str) -> None:
    with pytest.raises(InvalidOriginError):
        parse_origin(text)


PIECES = st.sampled_from(
    [
        *"htps:/\\@?#[]%.\t\n\r 0179xaé",
        "https://",
        "http://",
        "rp.example",
        "evil.example",
        ":443",
        "xn--",
        "::1",
        "%2e",
    ]
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map(lambda p: "https://" + "".join(p))))
def test_what_is_accepted_means_the_same_to_everyone(text: str) -> None:
    try:
        redirect_uri = parse_redirect_uri(text)
    except InvalidOriginError:
        return
    parts = urlsplit(text)
    assert parts.username is None
    assert parts.fragment == ""
    assert f"{parts.scheme}://{parts.netloc}" == str(redirect_uri.origin)
    assert parts.port == redirect_uri.origin.port
    assert re.fullmatch(r"[!-~]+", text)


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("https://xn--gteborg-90a.test:8443", "https://göteborg.test:8443"),
        ("https://xn--pple-43d.com", "https://xn--pple-43d.com"),
        ("https://xn--80ak6aa92e.com", "https://xn--80ak6aa92e.com"),  # apple, all in Cyrillic letters
        ("https://xn--0xaaf.example", "https://xn--0xaaf.example"),
        ("https://xn--e1afmkfd.example", "https://пример.example"),
        ("https://xn--n1aeb.xn--p1ai", "https://сор.рф"),
        ("https://rp.example", "https://rp.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
    ],
)
def test_origin_is_shown_in_unicode_only_where_it_cannot_deceive(origin: str, shown: str) -> None:
    assert display_origin(parse_origin(origin)) == shown

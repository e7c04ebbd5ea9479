# ruff: noqa: E501 - tables of octets, several a line
"""Strategies for requests that are wrong in every way that people, scanners and attackers think of.

`{session}`, `{code}`, `{auth_code}` and `{access_token}` stand for those of a real login, so that nonsense gets far.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

SITE = "https://site.example"
CALLBACK = f"{SITE}/cb"

PATHS = (
    "/auth", "/auth", "/auth", "/confirm", "/confirm", "/token", "/token", "/userinfo", "/resend", "/cancel", "/callback",
    "/normalize", "/", "/keys.json", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server",
    "/ver.txt", "/metrics", "/static/portier.css", "/static/../settings.py", "/static/%2e%2e/x", "/nothing", "/auth/",
    "//auth", "//evil.example/auth", "/%61uth", "/auth%00", "/auth;x=y", "/\\auth", "/" + "a" * 3000, "/auth\u00e9", "/*",
)  # fmt: skip
METHODS = ("GET", "GET", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")
USUAL = dict.fromkeys(("/confirm", "/token", "/userinfo", "/resend", "/cancel", "/callback", "/normalize"), "POST")
NAMES = (
    "client_id", "redirect_uri", "response_type", "response_mode", "scope", "nonce", "state", "login_hint", "prompt",
    "code", "session", "device_ok", "grant_type", "code_verifier", "code_challenge", "code_challenge_method", "id_token",
    "error", "error_description", "request", "request_uri", "registration", "ui_locales", "id_token_signing_alg",
    "response_errors", "access_token", "client_secret", "max_age", "display", "acr_values", "claims", "_login_hint",
    "_again", "", "\0", "a" * 2000, "redirect_uri[]", "State", "<script>", "\N{SNOWMAN}",
)  # fmt: skip
VALUES = (
    "", "x", SITE, CALLBACK, f"{CALLBACK}?a=b", f"{CALLBACK}#f", "https://evil.example", "https://evil.example/cb",
    "//evil.example", "javascript:alert(1)", f"{SITE}@evil.example/", "http://127.0.0.1", "id_token", "code", "token",
    "code id_token", "fragment", "query", "form_post", "openid", "openid email", "none", "none login", "1", "0", "-1",
    "A" * 43, "S256", "plain", "authorization_code", "refresh_token", "RS256", "EdDSA", "HS256", "true", "false",
    "person@fuzz.example", "PERSON+tag@fuzz.example", "a@b", "@", "a@@b.example", "\u0130\u2162@\u0130\u2162.example",
    '"a b"@fuzz.example', "a@[::1]", "a@xn--.example", f"{'a' * 64}@fuzz.example", f"a@{'b.' * 120}example",
    "\0", "\r\nx: y", "\u00e9" * 50, "\U0001f98a", "\u202e", "%00", "%", "+", "A" * 5000, "\U0001f98a" * 2000, "de fr-CA",
    "${jndi:x}", "<script>alert(1)</script>", '"><img src=x>', "'; --", "{{7*7}}", "{% raw %}", "../../etc/passwd",
    "{session}", "{session}", "{code}", "{code}", "{auth_code}", "{access_token}", "aaaaaa bbbbbb", "eyJhbGciOiJub25lIn0.e30.",
    "e30.e30.e30", "." * 3000, "9" * 400, "1e999", "NaN", "[]", "null",
)  # fmt: skip
BROKEN = (
    b"%",
    b"%zz",
    b"%ff",
    b"%c0%80",
    b"\xff",
    b"\x00",
    b"&&&",
    b"=",
    b"=&=",
    b";",
    b"a=%ed%a0%80",
    b"a" * 9000,
    b"&a=b" * 200,
)
HEADERS: dict[str, tuple[str, ...]] = {
    "accept": ("application/json", "*/*", "text/html;q=0.1,application/json", "q=;;,", "x" * 3000, "json;q=nan", ",,,"),
    "accept-language": ("fr-CA,de;q=0.5", "*", "x" * 3000, "en;q=nan", "de;q=9,nl;q=-1", "\xff", "," * 500),
    "authorization": (
        "Basic !!!", "Basic Og==", "Basic /zp4", "Basic", "Bearer x", "Bearer {access_token}", "Bearer " + "A" * 600,
        "Bearer", "Digest x", "Basic " + "QUFB" * 2000, "\xff", "Basic aHR0cHM6Ly9zaXRlLmV4YW1wbGU6eA==",
    ),
    "origin": ("null", "https://evil.example", SITE, "\xff", "x" * 3000),
    "host": ("evil.example", "", "localhost:0", "[::1", "a b", "\xff", "x" * 3000),
    "x-forwarded-for": ("1.2.3.4", "1.2.3.4, x", ", ,", "::ffff:1.2.3.4, ::1", "1.2.3.4," * 500, "\xff", "fe80::1%eth0"),
    "x-forwarded-proto": ("https", "gopher"),
    "x-forwarded-host": ("evil.example",),
    "traceparent": ("00-0-0-0", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "\xff"),
    "cookie": ("login-0=x; __Host-login-0=y", "=;=;", "x" * 3000, "\xff=\xff", '"', "a=b;" * 500),
    "content-type": (
        "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-16", "application/json",
        "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; boundary=" + "x" * 500,
        "", ";;;", "\xff", "APPLICATION/X-WWW-FORM-URLENCODED",
    ),
    "if-none-match": ("*", '"x"', "x" * 3000),
    "range": ("bytes=0-0", "bytes=-1", "x"),
    "expect": ("100-continue", "x"),
    "upgrade": ("h2c", "websocket"),
    "sec-fetch-site": ("cross-site", "same-origin", "x"),
    "content-encoding": ("gzip", "x"),
}  # fmt: skip
BODIES = (
    b"", b"{}", b'{"grant_type":"authorization_code"}', b"[" * 5000, b"\xff\xfe\x00", b"\0" * 100, b"x" * 65_537, b"a=b&" * 3000,
    b"--x\r\ncontent-disposition: form-data; name=session\r\n\r\nx\r\n--x--\r\n", b"--x\r\n", b"--x\r\n\r\n" * 100, b"<xml/>",
    b"a@b.example\n" * 3000, "\u0130\u2162@\u0130\u2162.example\n\xff".encode(), b"\r\r\n\n\x85", b"@" * 60_000,
)  # fmt: skip
CUT = (
    b"", b"\r\n", b"\r\n\r\n", b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nx", b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nshort", b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"GET / HTTP/1.1\r\nHost: x", b"G" * 70_000, b"POST /auth HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
)  # fmt: skip
ODD = (
    b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
    b"GET http://evil.example/auth HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"GET https://site.example HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET auth HTTP/1.1\r\nHost: x\r\n\r\n", b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /auth HTTP/1.1\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\na: b\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\na: \x00\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x: y\r\n" * 5000 + b"\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked, x\r\n\r\n0\r\n\r\n",
    b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=bGET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20, b"POST /normalize HTTP/1.0\r\nContent-Length: 3\r\n\r\na@b",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request, well framed; or octets that may be none (`odd`), or that end too early (`cut`)."""

    method: str = "GET"
    target: bytes = b"/"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    chunk: int = 0
    odd: bytes | None = None
    cut: bool = False

    def encode(self, replace: dict[str, str]) -> bytes:
        """The octets, with the values of a real login in place."""
        if self.odd is not None:
            return self.odd
        body, target = _filled(self.body, replace), _filled(self.target, replace)
        lines = [f"{self.method} ".encode() + target + b" HTTP/1.1"]
        headers = dict(self.headers)
        headers.setdefault("host", "localhost")
        if self.chunk and body:
            headers["transfer-encoding"] = "chunked"
            pieces = [body[at : at + self.chunk] for at in range(0, len(body), self.chunk)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        elif body or self.method == "POST":
            headers["content-length"] = str(len(body))
        lines += [name.encode() + b": " + _filled(value.encode("latin-1"), replace) for name, value in headers.items()]
        return b"\r\n".join([*lines, b"", b""]) + body


def _filled(octets: bytes, replace: dict[str, str]) -> bytes:
    for name, value in replace.items():
        octets = octets.replace(f"{{{name}}}".encode(), value.encode())
    return octets


def _encoded(pairs: list[tuple[str, str]], broken: bytes) -> bytes:
    safe = b"{}"  # the places to be filled
    fields = [
        quote_from_bytes(name.encode(), safe).encode() + b"=" + quote_from_bytes(value.encode(), safe).encode()
        for name, value in pairs
    ]
    return b"&".join([*fields, broken] if broken else fields)


_SOUND = {
    "/auth": [
        ("client_id", SITE), ("redirect_uri", CALLBACK), ("response_type", "code"), ("scope", "openid"), ("nonce", "n"),
        ("login_hint", "person@fuzz.example"), ("response_mode", "form_post"), ("state", "s"),
    ],
    "/confirm": [("session", "{session}"), ("code", "{code}"), ("device_ok", "1")],
    "/resend": [("session", "{session}")],
    "/cancel": [("session", "{session}")],
    "/callback": [("state", "{session}"), ("id_token", "e30.e30.e30")],
    "/token": [("grant_type", "authorization_code"), ("code", "{auth_code}"), ("redirect_uri", CALLBACK)],
    "/userinfo": [("access_token", "{access_token}")],
}  # fmt: skip


# Made once: hypothesis takes its time to make a strategy.
_PATH, _METHOD, _NAME = st.sampled_from(PATHS), st.sampled_from(METHODS), st.sampled_from(NAMES)
_VALUE = st.one_of(st.sampled_from(VALUES), st.text(max_size=12))
_CHANGES = st.dictionaries(_NAME, _VALUE, max_size=3)
_ADDITIONS = st.lists(st.tuples(_NAME, _VALUE), max_size=3)
_HEADERS = st.dictionaries(st.sampled_from(sorted(HEADERS)), st.integers(0, 11), max_size=3)
_BROKEN, _BODY, _CHUNK = st.sampled_from(BROKEN), st.sampled_from(BODIES), st.sampled_from((0, 0, 0, 1, 7, 4096))
_MODE = st.sampled_from(("query", "fragment", "form_post"))
_ONE_IN_FOUR, _ONE_IN_SIXTEEN = st.integers(0, 3), st.integers(0, 15)


@st.composite
def _well_framed(draw: st.DrawFn) -> Request:
    """A request of which a part is sound, so that the rest is looked at."""
    path = draw(_PATH)
    fields = dict(_SOUND.get(path, ()))
    if path == "/auth":
        fields["response_mode"] = draw(_MODE)
    pairs = list((fields | draw(_CHANGES)).items())
    if draw(_ONE_IN_FOUR) == 0:
        pairs += draw(_ADDITIONS)
    broken = draw(_BROKEN) if draw(_ONE_IN_SIXTEEN) == 0 else b""
    method = draw(_METHOD) if draw(_ONE_IN_FOUR) == 0 else USUAL.get(path, "GET")
    headers = {name: HEADERS[name][number % len(HEADERS[name])] for name, number in draw(_HEADERS).items()}
    encoded, target = _encoded(pairs, broken), quote_from_bytes(path.encode(), "/;%*\\").encode()
    if method in ("POST", "PUT", "PATCH"):
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
        body = draw(_BODY) if draw(_ONE_IN_SIXTEEN) == 0 else encoded
        return Request(method, target, tuple(headers.items()), body, draw(_CHUNK) if len(body) < 5000 else 0)
    # The rest of a target that no client would send is for ODD: this one has to be answered.
    printable = bytes(octet for octet in encoded if 0x20 < octet < 0x7F)
    return Request(method, target + (b"?" + printable if printable else b""), tuple(headers.items()))


_WELL_FRAMED = _well_framed()
_ODD = st.sampled_from([Request(odd=octets) for octets in ODD] + [Request(odd=octets, cut=True) for octets in CUT])


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request: most are well framed."""
    return draw(_ODD if draw(_ONE_IN_SIXTEEN) == 0 else _WELL_FRAMED)

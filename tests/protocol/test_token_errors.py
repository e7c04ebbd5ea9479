"""Every way a token request or a userinfo request can be wrong, and its error (RFC 6749 section 5.2, RFC 6750)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx
import pytest
from tests.protocol.conftest import SITE
from tests.stack import Stack

CALLBACK = f"{SITE}/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # of that verifier, in RFC 7636 appendix B
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}

NewCode = Callable[..., str]


@pytest.fixture
def new_code(client: httpx.Client, strict_stack: Stack, new_address: Callable[[], str]) -> NewCode:
    """Log somebody new in; gives the authorization code."""

    def make(**more: str) -> str:
        address = new_address()
        request = {
            "client_id": SITE,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "openid",
            "login_hint": address,
        }
        headers = {"accept": "application/json"}
        session = client.post("/auth", data={**request, **more}, headers=headers).json()["session"]
        code = strict_stack.mailbox.wait_for(address).code
        done = client.post("/confirm", data={"session": session, "code": code, "device_ok": "1"}, headers=headers)
        return str(done.json()["code"])

    return make


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(text.encode()).decode()}


@dataclass(frozen=True)
class Fault:
    """A token request with one fault; None leaves a field out, `twice` repeats one."""

    name: str
    error: str
    fields: Mapping[str, str | None] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    twice: str | None = None
    challenge: bool = False
    status: int = 400


FAULTS = [
    Fault("no grant_type", "invalid_request", {"grant_type": None}),
    Fault("empty grant_type", "invalid_request", {"grant_type": ""}),
    Fault("another grant_type", "unsupported_grant_type", {"grant_type": "client_credentials"}),
    Fault("no code", "invalid_request", {"code": None}),
    Fault("unknown code", "invalid_grant", {"code": "A" * 43}),
    Fault("code that is none", "invalid_grant", {"code": "'; --\N{SNOWMAN}"}),
    Fault("code too long", "invalid_request", {"code": "A" * 513}),
    Fault("code with NUL", "invalid_request", {"code": "a\0"}),
    Fault("neither redirect_uri nor verifier", "invalid_request", {"redirect_uri": None}),
    Fault("neither, with client_id", "invalid_request", {"redirect_uri": None, "client_id": SITE}),
    Fault("another redirect_uri", "invalid_grant", {"redirect_uri": f"{CALLBACK}/"}),
    Fault("redirect_uri written otherwise", "invalid_grant", {"redirect_uri": "https://site.example:443/callback"}),
    Fault("client_id of another site", "invalid_grant", {"client_id": "https://other.example"}),
    Fault("Basic of another site", "invalid_grant", headers=basic("https://other.example:x")),
    Fault("Basic of another site, encoded", "invalid_grant", headers=basic("https%3A%2F%2Fother.example:x")),
    Fault("Basic that differs from client_id", "invalid_request", {"client_id": SITE}, basic("https://b.example:x")),
    Fault("Basic that is no base64", "invalid_request", headers={"authorization": "Basic !"}),
    Fault("Basic without colon", "invalid_request", headers=basic("x")),
    Fault("Basic too long", "invalid_request", headers=basic("x" * 8000)),
    Fault("no verifier", "invalid_grant", challenge=True),
    Fault("wrong verifier", "invalid_grant", {"code_verifier": VERIFIER[::-1]}, challenge=True),
    Fault("verifier too short", "invalid_grant", {"code_verifier": VERIFIER[:42]}, challenge=True),
    Fault("verifier too long", "invalid_grant", {"code_verifier": VERIFIER * 3}, challenge=True),
    Fault("challenge in place of the verifier", "invalid_grant", {"code_verifier": CHALLENGE}, challenge=True),
    Fault("verifier without challenge", "invalid_grant", {"code_verifier": VERIFIER}),
    *(Fault(f"{name} twice", "invalid_request", twice=name)
      for name in ("grant_type", "code", "redirect_uri", "client_id", "client_secret", "code_verifier")),
    *(Fault(f"a body of {kind}", "invalid_request", headers={"content-type": kind})
      for kind in ("application/json", "multipart/form-data; boundary=x", "application/xml")),
    Fault("body too long", "invalid_request", {"padding": "x" * 65_536}, status=413),
]  # fmt: skip


def check(answer: httpx.Response, error: str, status: int = 400) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["access-control-allow-origin"] == "*"
    told = answer.json()
    assert told["error"] == error
    assert told["error_description"]
    assert told.keys() <= {"error", "error_description", "reference"}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_faulty_token_request_gets_its_error_as_json(
    client: httpx.Client, new_code: NewCode, fault: Fault, accept: str
) -> None:
    given: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": new_code(**PKCE if fault.challenge else {}),
        "redirect_uri": CALLBACK,
        **fault.fields,
    }
    fields = [(name, value) for name, value in given.items() if value is not None]
    if fault.twice is not None:
        fields += [(fault.twice, given.get(fault.twice) or "x")] * (1 if fault.twice in given else 2)
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": accept, **fault.headers}
    check(client.post("/token", content=urlencode(fields), headers=headers), fault.error, fault.status)


def test_code_presented_twice_is_refused_the_second_time_and_its_token_is_withdrawn(
    client: httpx.Client, new_code: NewCode
) -> None:
    form = {"grant_type": "authorization_code", "code": new_code(), "redirect_uri": CALLBACK}
    token = client.post("/token", data=form).json()["access_token"]
    assert client.get("/userinfo", headers={"authorization": f"Bearer {token}"}).status_code == 200
    check(client.post("/token", data=form), "invalid_grant")
    assert client.get("/userinfo", headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_code_is_not_taken_from_the_query_or_by_get(client: httpx.Client, new_code: NewCode) -> None:
    form = {"grant_type": "authorization_code", "code": new_code(), "redirect_uri": CALLBACK}
    got = client.get("/token", params=form)
    assert (got.status_code, got.headers["allow"]) == (405, "OPTIONS, POST")
    check(client.post("/token", params=form), "invalid_request")
    assert client.post("/token", data=form).status_code == 200


@pytest.mark.parametrize(
    ("challenge", "proof"), [(PKCE, {"code_verifier": VERIFIER}), ({}, {"redirect_uri": CALLBACK})]
)
def test_client_that_says_no_client_id_needs_the_verifier_or_the_redirect_uri(
    client: httpx.Client, new_code: NewCode, challenge: dict[str, str], proof: dict[str, str]
) -> None:
    form = {"grant_type": "authorization_code", "code": new_code(**challenge)}
    assert client.post("/token", data={**form, **proof}).status_code == 200


@dataclass(frozen=True)
class UserinfoFault:
    """A userinfo request with one fault; {token} stands for a good access token."""

    name: str
    status: int
    error: str | None
    authorization: str | None = None
    query: str = ""
    form: str | None = None


USERINFO_FAULTS = [
    UserinfoFault("no token", 401, None),
    UserinfoFault("token in the query", 401, None, query="access_token={token}"),
    UserinfoFault("Basic", 401, None, "Basic e30="),
    UserinfoFault("unknown token", 401, "invalid_token", "Bearer " + "A" * 43),
    UserinfoFault("empty token", 401, "invalid_token", "Bearer"),
    UserinfoFault("token of other letters", 401, "invalid_token", "Bearer \u00e9"),
    UserinfoFault("token too long", 401, "invalid_token", "Bearer " + "A" * 5000),
    UserinfoFault("token in header and form", 400, "invalid_request", "Bearer {token}", form="access_token={token}"),
    UserinfoFault("token twice in the form", 400, "invalid_request", form="access_token={token}&access_token={token}"),
]  # fmt: skip


@pytest.mark.parametrize("fault", USERINFO_FAULTS, ids=[fault.name for fault in USERINFO_FAULTS])
def test_faulty_userinfo_request_is_challenged(client: httpx.Client, new_code: NewCode, fault: UserinfoFault) -> None:
    form = {"grant_type": "authorization_code", "code": new_code(), "redirect_uri": CALLBACK}
    token = client.post("/token", data=form).json()["access_token"]
    headers = httpx.Headers(encoding="latin-1")
    if fault.authorization is not None:
        headers["authorization"] = fault.authorization.replace("{token}", token)
    url = f"/userinfo?{fault.query.replace('{token}', token)}"
    if fault.form is None:
        answer = client.get(url, headers=headers)
    else:
        headers["content-type"] = "application/x-www-form-urlencoded"
        answer = client.post(url, content=fault.form.replace("{token}", token), headers=headers)
    assert answer.status_code == fault.status
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="userinfo"')
    assert (f'error="{fault.error}"' in challenge) if fault.error else ("error" not in challenge)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "www-authenticate" in answer.headers["access-control-expose-headers"]
    assert token not in json.dumps(answer.json())

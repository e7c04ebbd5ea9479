"""Something else wrote under the broker's keys: under every kind that keyspace.py has, other types and junk of each."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from tests.faults.broker import SITE, Broker, Service, broker, is_told
from tests.stack import until

from shared_store.keyspace import KEY_LOG, KEY_SET, KEYS, LOCK, MAIL_TAKEN, SUPPRESSED, KeyPattern

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

BINARY = b"\xff\x00\xfe" * 1_700_000  # 5 MB
TEXT = b'{"not": "what is written there"}'
SECRET = "the-secret-of-postmarks-calls-32ch"
SETTINGS: Mapping[str, Any] = {
    "suppression_key": "a key of at least thirty-two characters", "postmark_webhook_secret": SECRET,
    "mailgun_webhook_key": SECRET, "allowed_domains": "",
    "token_ttl": 86_400,  # no key is retired meanwhile
}  # fmt: skip
ASKED = 6  # times that everything is asked for
LINES = 20  # of warnings and errors that one service may write about it: far fewer than it is asked


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("broker"), **SETTINGS) as running:
        yield running


@dataclass(frozen=True)
class People:
    """Who is there when the junk is written: each has something of their own in Redis."""

    waits_with: dict[str, str]
    has_code: dict[str, str]
    has_token: str
    bounced: str

    @classmethod
    def begin(cls, running: Broker, name: str) -> People:
        assert running.begin(f"waits-{name}@example.org").status_code == 200
        mail = running.mailbox.wait_for(f"waits-{name}@example.org")
        codes = [_code_of(running, f"code-{number}-{name}@example.org") for number in range(2)]
        token = httpx.post(f"{running.urls[0]}/token", data=codes[1], timeout=30).json()["access_token"]
        bounced = f"bounced-{name}@example.org"
        assert _bounces(running, bounced).is_success
        assert _complains(running, bounced).is_success
        running.begin(f"nobody-{name}@example.org")
        return cls({"session": mail.session, "code": mail.code, "device_ok": "1"}, codes[0], token, bounced)


def _code_of(running: Broker, address: str) -> dict[str, str]:
    """The form of the token request after a login by code flow."""
    assert running.begin(address, response_type="code", response_mode="query").status_code == 200
    back = running.confirm(address).headers["location"]
    code = dict(parse_qsl(urlsplit(back).query))["code"]
    return {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": SITE,
        "redirect_uri": f"{SITE}/back",
    }


def _bounces(running: Broker, address: str) -> httpx.Response:
    report = {"RecordType": "Bounce", "Type": "HardBounce", "TypeCode": 1, "Email": address, "Inactive": True}
    return httpx.post(f"{running.urls[0]}/webhooks/postmark", json=report, auth=("postmark", SECRET), timeout=30)


def _complains(running: Broker, address: str) -> httpx.Response:
    """A signed webhook, which is remembered."""
    when = str(int(time.time()))
    signature = hmac.digest(SECRET.encode(), f"{when}{address}".encode(), "sha256").hex()
    signed = {"timestamp": when, "token": address, "signature": signature}
    report = {"signature": signed, "event-data": {"event": "complained", "recipient": address}}
    return httpx.post(f"{running.urls[0]}/webhooks/mailgun", json=report, timeout=30)


def _concrete(running: Broker, kind: KeyPattern) -> list[str | bytes]:
    """The keys of a kind that there are, and those that are there for moments only."""
    found: list[str | bytes] = list(running.redis.ask("KEYS", kind.glob))
    if kind is LOCK:
        found += [LOCK.key(name=name) for name in ("rotate-RS256", "mail-reaper")]
    elif kind is MAIL_TAKEN:
        workers = running.redis.ask("ZRANGE", "mail:{mail}:leases", 0, -1)
        found += [MAIL_TAKEN.key(tag="mail", worker=worker.decode()) for worker in workers]
    elif not found and kind.glob.startswith("mail:"):
        found.append(kind.key(tag="mail"))
    assert found, f"nothing here writes {kind.pattern}: let `People` do what does"
    return found


def another_type(running: Broker, key: str | bytes, kind: KeyPattern) -> None:
    words = ("RPUSH", TEXT) if kind.type == "STRING" else ("SET", BINARY)
    running.redis.ask("DEL", key)
    running.redis.ask(words[0], key, words[1])


def binary_junk(running: Broker, key: str | bytes, kind: KeyPattern) -> None:
    _write(running, key, kind, BINARY)


def wrong_fields(running: Broker, key: str | bytes, kind: KeyPattern) -> None:
    _write(running, key, kind, TEXT)


def _write(running: Broker, key: str | bytes, kind: KeyPattern, junk: bytes) -> None:
    ask: Callable[..., bytes] = running.redis.ask
    if ask("TYPE", key).decode().upper() != kind.type:
        ask("DEL", key)
    if kind.type == "STRING":
        ask("SET", key, junk)
    elif kind.type == "HASH":
        for name in running.redis.ask("HKEYS", key) or ["junk"]:
            ask("HSET", key, name, junk)
    elif kind.type == "LIST":
        ask("RPUSH", key, junk)
        ask("LPUSH", key, junk)
    else:
        ask("ZADD", key, 1, junk)
        ask("ZADD", key, "+inf", junk + b" for ever")


FORMS = {form.__name__: form for form in (another_type, binary_junk, wrong_fields)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEYS, ids=[key.glob for key in KEYS])
@pytest.mark.fault(
    row="huge values, binary junk under our keys",
    cause="under each kind of key in keyspace.py, one after the other: 5 MB of another type, 5 MB of junk, wrong "
    "fields; everything is asked for six times",
    auth_api="whoever's own key it is gets 503 with Retry-After, or is told that it has expired; counters, locks and "
    "cached documents make way, so that new logins go on within seconds; logged once a minute",
    mailer="what is of another type is removed and jobs are put back in line, junk in the queue is buried; sends on",
    key_rotator="writes the keys that it remembers over what can't be read; the same current key",
)
def test_junk_under_any_key_is_told_and_everyone_else_goes_on(whole: Broker, kind: KeyPattern, form: str) -> None:
    name = f"{KEYS.index(kind)}-{form.replace('_', '-')}"
    people = People.begin(whole, name)
    kids = whole.kids()
    said = {service: len(_complaints(service)) for service in whole.services}
    for key in _concrete(whole, kind):
        FORMS[form](whole, key, kind)
    whole.redis.ask("PUBLISH", "keys-updated", "keys:{RS256}")
    began = time.monotonic()
    _is_asked_for(whole, people, name)
    until(lambda: _logs_in(whole, f"fresh-{time.monotonic_ns()}@example.org"), bound=60)
    if kind in {LOCK, KEY_SET, KEY_LOG}:
        whole.rotators[0].does("rotate", "--now")
        until(lambda: whole.kids(0)[0] == whole.kids(1)[0] == kids[1], bound=60)
    _is_shown(whole, kind)
    assert set(kids) <= set(whole.kids())
    whole.until_ready()
    whole.log_in(f"later-{name}@example.org")
    assert whole.nobody_died()
    for service in whole.services:
        told = _complaints(service)[said[service] :]
        print(f"{service.log.name}: {len(told)} lines in {time.monotonic() - began:.0f} s")
        assert len(told) <= LINES, told
        assert "Traceback" not in service.log.read_text()


def _is_asked_for(running: Broker, people: People, name: str) -> None:
    """Nothing hangs, nothing is an unexpected error, whatever is asked for."""
    for number in range(ASKED):
        api = running.urls[number % 2]
        answers = [
            httpx.post(f"{api}/confirm", data=people.waits_with, timeout=30),
            httpx.post(f"{api}/resend", data={"session": people.waits_with["session"]}, timeout=30),
            httpx.post(f"{api}/token", data=people.has_code, timeout=30),
            httpx.get(f"{api}/userinfo", headers={"Authorization": f"Bearer {people.has_token}"}, timeout=30),
            running.begin(people.bounced, api=number % 2),
            _bounces(running, f"again-{people.bounced}"),
            _complains(running, people.bounced),
            running.begin(f"asks-{number}-{name}@example.org", api=number % 2),
            httpx.get(f"{api}/keys.json", timeout=30),
        ]
        for answer in answers:
            assert answer.status_code < 500 or is_told(answer), f"{answer.request.url}: {answer.status_code}"


def _is_shown(running: Broker, kind: KeyPattern) -> None:
    """Operators' commands that read this kind of key do so."""
    _, mailer, rotator = running.one_of_each
    if kind.glob.startswith("mail:"):
        for words in ("list", "dead"):
            mailer.does("queue", words)
        mailer.does("queue")
    elif kind is SUPPRESSED:
        mailer.does("suppressions", "list")
    elif kind is KEY_LOG:
        rotator.does("log")


def _logs_in(running: Broker, address: str) -> bool:
    begun = running.begin(address)
    if is_told(begun):
        time.sleep(0.2)  # a person would wait longer
        return False
    assert begun.status_code == 200, begun.text
    done = running.confirm(address, api=1)
    return done.status_code == 200 and 'name="id_token"' in done.text


def _complaints(service: Service) -> list[str]:
    return [line["event"][:300] for line in service.lines() if line["level"] in {"warning", "error"}]

"""DKIM signatures, verified by dkimpy as a receiver does, with a DNS of the test's own."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from mailer import signing
from mailer.errors import SigningKeyError
from mailer.mails import Mail, Sender
from mailer.recipients import parse_recipient
from mailer.rendering import Renderer
from mailer.settings import SERVICE, Settings
from mailer.signing import DkimSigner
from mailer.transports.sendmail import SendmailTransport
from mailer.transports.smtp import SmtpTransport
from mailer.transports.smtp_opening import SmtpOptions
from mailer.verdicts import Kind
from service_kit.errors import ConfigurationError
from service_kit.settings import load

from .command_line import Mailer, run
from .processes import job
from .smtp_server import SmtpServer

SENDER = Sender.of("Portier", parse_recipient("login@broker.example"))
KEYS: dict[str, RSAPrivateKey | Ed25519PrivateKey] = {
    "rsa-sha256": generate_private_key(65537, 2048),
    "ed25519-sha256": Ed25519PrivateKey.generate(),
}
EACH = pytest.mark.parametrize("algorithm", KEYS)


def signer(algorithm: str) -> DkimSigner:
    return DkimSigner(domain="broker.example", selector="s1", key=KEYS[algorithm])


def dns(algorithm: str) -> Callable[..., bytes]:
    """Answer with the TXT record that an operator publishes for the key."""
    public = KEYS[algorithm].public_key()
    if algorithm.startswith("rsa"):
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    records = {b"s1._domainkey.broker.example.": b"v=DKIM1; k=%s; p=%s" % (
        algorithm.partition("-")[0].encode(), b64encode(octets)
    )}  # fmt: skip
    return lambda name, timeout=5: records[name]  # noqa: ARG005


def verifies(content: bytes, algorithm: str) -> bool:
    return bool(dkim.verify(content, dnsfunc=dns(algorithm)))


def mail(algorithm: str, **changes: object) -> Mail:
    asked = job("jane@example.org", **changes)
    return Renderer(SENDER, signer=signer(algorithm)).render(asked, now=asked.requested_at)


@EACH
async def test_mail_over_smtp_has_a_signature_that_verifies(algorithm: str) -> None:
    async with SmtpServer() as server:
        transport = SmtpTransport(SmtpOptions("127.0.0.1", server.port, security="off"))
        verdict = await transport.send(mail(algorithm, locale="de", site="https://bücher.example"), bound=10)
        await transport.aclose()
    assert verdict.kind is Kind.DELIVERED
    [received] = server.received
    assert verifies(received.content, algorithm)
    tags = dict(tag.split("=", 1) for tag in "".join(received.message["DKIM-Signature"].split()).split(";"))
    assert (tags["a"], tags["c"], tags["d"]) == (algorithm, "relaxed/relaxed", "broker.example")


@EACH
async def test_mail_by_sendmail_has_a_signature_that_verifies(algorithm: str, tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/mail\n")
    program.chmod(0o755)
    await SendmailTransport(str(program)).send(mail(algorithm), bound=10)
    assert verifies((tmp_path / "mail").read_bytes(), algorithm)


@EACH
@pytest.mark.parametrize(
    "change",
    [
        (b"abcdef 134567", b"abcdef 134568"),
        (b"Subject: ", b"Subject: Re: "),
        *[(b"From: ", name + b": mallory@evil.example\r\nFrom: ") for name in (b"From", b"Reply-To", b"Subject")],
        (b"Content-Type: multipart", b"Content-Type: text/html\r\nContent-Type: multipart"),
        (b"To: <jane@", b"Cc: <mallory@evil.example>\r\nTo: <jane@"),
    ],
)
async def test_signature_breaks_with_what_is_changed_or_added_on_the_way(
    algorithm: str, change: tuple[bytes, bytes]
) -> None:
    content = await mail(algorithm).to_signed_bytes()
    assert verifies(content, algorithm)
    assert not verifies(content.replace(*change, 1), algorithm)


@EACH
async def test_signature_survives_what_mail_servers_may_change(algorithm: str) -> None:
    content = await mail(algorithm).to_signed_bytes()
    content = content.replace(b"Subject: ", b"subject:   ", 1).replace(b"=\r\n", b"= \t\r\n") + b"\r\n\r\n"
    assert verifies(b"Received: by relay.example; now\r\n" + content, algorithm)


@given(site=st.text(max_size=200), name=st.text(max_size=80), text=st.text(max_size=500))
def test_any_mail_is_signed_so_that_it_verifies(site: str, name: str, text: str) -> None:
    sender = Sender.of(name, parse_recipient("login@broker.example"))
    sent = Mail("id", sender, parse_recipient("jane@example.org"), site, text, text, ())
    assert verifies(signer("ed25519-sha256")(sent.to_bytes()), "ed25519-sha256")


async def test_signing_is_done_beside_the_event_loop() -> None:
    threads = []

    def sign(content: bytes) -> bytes:
        threads.append(threading.get_ident())
        return content

    sent = Mail("id", SENDER, parse_recipient("jane@example.org"), "s", "t", "h", (), sign)
    await sent.to_signed_bytes()
    assert threads != [threading.get_ident()]


def pem(key: RSAPrivateKey | Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nonsense", "no unencrypted private key"),
        (pem(KEYS["rsa-sha256"], b"secret"), "no unencrypted private key"),
        (pem(KEYS["rsa-sha256"]), "RSA key of 2048 bits"),
        (new_ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "another kind"),
    ],
)
def test_key_that_can_not_sign_is_told_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.setattr(signing, "LEAST_RSA_BITS", 3072)
    file = tmp_path / "dkim.pem"
    file.write_bytes(content)
    given = {
        "redis_url": "redis://unused", "from_address": "login@broker.example", "smtp_server": "mail",
        "dkim_domain": "broker.example", "dkim_selector": "s1", "dkim_key_file": str(file),
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=f"dkim_key_file.*{words}"):
        load(Settings, service=SERVICE, environ={f"BROKER_{name.upper()}": value for name, value in given.items()})


@pytest.mark.setting("dkim_domain", "dkim_selector", "dkim_key_file")
def test_selector_that_no_name_can_have_is_told_at_start(tmp_path: Path) -> None:
    file = tmp_path / "dkim.pem"
    file.write_bytes(pem(KEYS["ed25519-sha256"]))
    for domain, selector in (("broker..example", "s1"), ("broker.example", "s" * 64)):
        with pytest.raises(SigningKeyError, match="no key can be published at"):
            DkimSigner.from_file(file, domain=domain, selector=selector)


async def test_signature_for_a_domain_that_is_not_the_senders_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "dkim.pem"
    file.write_bytes(pem(KEYS["ed25519-sha256"]))
    async with SmtpServer() as server:
        mailer = Mailer("redis://unused", server.port)
        mailer.set(dkim_domain="other.example", dkim_selector="s1", dkim_key_file=str(file))
        status, text = await run(mailer, "send-test", "jane@example.org")
    assert (status, "DMARC" in text) == (0, True)
    signature = "".join(server.received[0].message["DKIM-Signature"].split())
    assert "d=other.example;" in signature
    assert "s=s1;" in signature

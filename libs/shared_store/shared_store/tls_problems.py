"""What went wrong with TLS, told with the setting or the file to look at."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography import x509
from redis import exceptions as redis_errors

from shared_store.store_url import StoreUrl

CLOSED: Final = "closed right after the TLS handshake"  # what a server does that wants another client certificate
_OPENSSL: Final = re.compile(r"\[(?:SSL|X509): \w+\] (?:certificate verify failed: )?(.*?)\.? \(_ssl")
_ADVICE: Final = (
    ("alert certificate required", "Redis asks for a client certificate: set redis_client_cert and redis_client_key"),
    ("alert certificate expired", "the client certificate is no longer valid: renew redis_client_cert"),
    ("alert unknown ca", "Redis does not know who signed redis_client_cert: look at its tls-ca-cert-file"),
    ("alert bad certificate", "Redis refuses redis_client_cert"),
    ("alert protocol version", "Redis speaks no version of TLS that redis_tls_min allows"),
    ("unsupported protocol", "Redis speaks no version of TLS that redis_tls_min allows"),
    ("wrong version number", "Redis speaks no TLS on this port: redis:// instead of rediss:// in redis_url"),
    ("certificate has expired", "renew Redis' certificate (its tls-cert-file), or set this machine's clock"),
    ("certificate is not yet valid", "look at the dates of Redis' certificate and at this machine's clock"),
    ("key values mismatch", "redis_client_key is not the key of redis_client_cert"),
    ("mismatch", "redis_url, and what Sentinels and a Cluster tell, has to name what Redis' certificate is for"),
    ("no certificate or crl found", "redis_ca_file holds no PEM certificate"),
    ("issuer certificate", "put the certificate of the authority that signed Redis' into redis_ca_file"),
    ("self-signed certificate", "put the certificate of the authority that signed Redis' into redis_ca_file"),
)


def tls_problem(causes: Iterable[BaseException]) -> str | None:
    """Say what was wrong with TLS and what to do, where that is behind an error; `causes` begin with the outermost.

    OpenSSL's own text is looked for as well, since redis-py keeps no more of what each Sentinel and node said.
    """
    for cause in causes:
        if found := _OPENSSL.search(str(cause)):
            return f"{found[1]}: {_advice(found[1])}"
        if isinstance(cause, ssl.SSLError):
            return f"{cause.reason or 'the handshake failed'}: {_advice('')}"
    return None


def wrong_scheme(url: StoreUrl, causes: Iterable[BaseException]) -> str | None:
    """Say how redis_url may have to begin, where a server has said nothing yet and that may be why.

    Redis without TLS reads the handshake as a command that does not end, and waits. Redis with TLS closes the
    connection, and what stands in front of some says what is no reply of Redis.
    """
    silent = (TimeoutError, redis_errors.TimeoutError)
    closed = (ConnectionResetError, BrokenPipeError, redis_errors.InvalidResponse)
    if url.tls and any(isinstance(cause, silent) for cause in causes):
        return f"perhaps it speaks no TLS on that port, and redis_url has to begin with {replace(url, tls=False).scheme}://"
    if not url.tls and any(isinstance(cause, closed) or "closed by server" in str(cause) for cause in causes):
        return f"perhaps it speaks TLS on that port, and redis_url has to begin with {replace(url, tls=True).scheme}://"
    return None


def _advice(text: str) -> str:
    return next((advice for mark, advice in _ADVICE if mark in text), "check redis_ca_file and the name in redis_url")


def shown_certificate(path: str | None) -> str:
    """Say which client certificate a server has seen, for one that closes the connection without a reason."""
    if path is None:
        return "no client certificate was shown"
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError):
        return "redis_client_cert can't be read"
    dates = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    return "redis_client_cert is valid from {:%Y-%m-%d %H:%M} to {:%Y-%m-%d %H:%M} UTC".format(*dates)

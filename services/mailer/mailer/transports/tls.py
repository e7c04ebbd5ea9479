"""What an operator wants to know of a TLS connection."""

from __future__ import annotations

import ssl
import time


def describe_tls(connection: ssl.SSLObject | ssl.SSLSocket) -> str:
    """Version, and name and remaining days of the server's certificate."""
    certificate = connection.getpeercert() or {}
    names = [str(entry[1]) for entry in certificate.get("subjectAltName", ()) if isinstance(entry, tuple)]
    ends = certificate.get("notAfter")
    days = f", {(ssl.cert_time_to_seconds(ends) - time.time()) / 86400:.0f} days left" if isinstance(ends, str) else ""
    return f"{connection.version()}, certificate for {', '.join(names[:3]) or 'no name'}{days}"

"""The mail as it goes over the wire (RFC 5322, MIME): headers, a text part and an HTML part.

Written by hand, since `email.message` takes a millisecond a mail; a test reads every mail with a real parser.
"""

import re
from binascii import b2a_qp
from dataclasses import dataclass
from email.header import Header
from email.utils import formatdate

from mailer.rendering import Texts

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_LINE = 998  # octets (RFC 5322 section 2.1.1)
_SPECIALS = re.compile(r'[()<>\[\]:;@\\,."]')


@dataclass(frozen=True, slots=True)
class Sender:
    """From whom mails come; `domain` is the address' own, for Message-ID and List-Id."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """The part after the @."""
        return self.address.rpartition("@")[2]

    @property
    def header(self) -> str:
        """The value of From."""
        if not self.name:
            return f"<{self.address}>"
        if not self.name.isascii():
            return f"{_encoded(self.name, 'From')} <{self.address}>"
        quoted = _SPECIALS.search(self.name) is not None
        escaped = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}" <{self.address}>' if quoted else f"{self.name} <{self.address}>"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to send: what it says, to whom, and what makes a repeat of it recognisable."""

    job_id: str
    sender: Sender
    to: str
    texts: Texts
    time: float  # Unix seconds

    @property
    def message_id(self) -> str:
        """The Message-ID, the same for every attempt."""
        return f"<{self.job_id}@{self.sender.domain}>"

    def extra_headers(self) -> dict[str, str]:
        """Give the headers that tell machines what this is, for transports that write the rest themselves."""
        return {
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
            "List-Id": f"Authentication <auth.{self.sender.domain}>",
            "Content-Language": self.texts.locale,
        }

    def to_bytes(self) -> bytes:
        """Write the message, lines ending in CR LF."""
        boundary = f"=_{self.job_id}"
        headers = {
            "From": self.sender.header,
            "To": f"<{self.to}>",
            "Subject": _encoded(self.texts.subject, "Subject"),
            "Date": formatdate(self.time),
            "Message-ID": self.message_id,
            **self.extra_headers(),
            "MIME-Version": "1.0",
            "Content-Type": f'multipart/alternative; boundary="{boundary}"',
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        parts = (_part("text/plain", self.texts.text), _part("text/html", self.texts.html))
        mark = f"--{boundary}".encode()
        body = b"".join(b"\r\n" + mark + b"\r\n" + part for part in parts)
        return head + body + b"\r\n" + mark + b"--\r\n"


def is_one_line(text: str) -> bool:
    """Tell whether a text can stand in a header or an SMTP command: no line break, no other control character."""
    return _CONTROL.search(text) is None


def _encoded(value: str, name: str) -> str:
    """Write a header's text: folded, and as encoded words (RFC 2047) where it is not ASCII."""
    charset = "us-ascii" if value.isascii() else "utf-8"
    return Header(value, charset, maxlinelen=76, header_name=name).encode(linesep="\r\n")


def _part(media_type: str, text: str) -> bytes:
    content = "\r\n".join(text.splitlines()).encode() + b"\r\n"
    plain = content.isascii() and max(map(len, content.split(b"\r\n"))) <= _LONGEST_LINE
    encoding = "7bit" if plain else "quoted-printable"
    if not plain:
        content = b2a_qp(content, istext=True)
    head = f"Content-Type: {media_type}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content

"""A mail ready to be sent, and its bytes: headers encoded and folded, both parts quoted-printable.

Written by hand rather than with `email.message`, which takes a millisecond a mail; tests read it with that package.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from unicodedata import bidirectional

from mailer.recipients import Recipient

# Quoted-printable text never holds "=_", so no content can hold this boundary (RFC 2045 section 6.7).
BOUNDARY = "=_portier"
LONGEST_LINE = 76
_WORD_OCTETS = 42  # of UTF-8 in one encoded word, which may have 75 characters in all (RFC 2047 section 2)
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")  # no header may hold these
_LEFTWARD = frozenset({"R", "AL", "AN"})  # of Unicode's bidirectional classes
_PARTS = (
    (
        f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="{BOUNDARY}"\r\n\r\n--{BOUNDARY}\r\n'
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    ),
    (
        f"\r\n--{BOUNDARY}\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    ),
    f"\r\n--{BOUNDARY}--\r\n",
)
_HEAD, _MIDDLE, _END = (part.encode() for part in _PARTS)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who mails come from: `address` for envelopes, `header` is the whole From value, encoded and folded."""

    name: str
    address: str
    header: str

    @classmethod
    def of(cls, name: str, address: Recipient) -> Sender:
        """Make a sender of a display name and a checked address."""
        name = one_line(name)
        return cls(name, address.address, f"{_phrase(name)}\r\n <{address.address}>")

    @property
    def display(self) -> str:
        """Name and address as one text, not encoded: what mail APIs take."""
        name = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{name}" <{self.address}>'

    @property
    def domain(self) -> str:
        """The domain that Message-IDs and List-Id are made in."""
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. `subject`, `text` and `html` are plain text; `headers` are in ASCII and need no encoding.

    `sign` puts a signature on its bytes, where there is to be one.
    `still_wanted` is to be asked right before a server is given the content: it is False once the mail would come too
    late, or another mailer may have it. A process that was stopped half-way does not know that by its timers.
    """

    id: str
    sender: Sender
    to: Recipient
    subject: str
    text: str
    html: str
    headers: tuple[tuple[str, str], ...]
    sign: Callable[[bytes], bytes] | None = field(default=None, compare=False, repr=False)
    still_wanted: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it."""
        return self.to.needs_smtputf8 or not self.sender.address.isascii()

    @property
    def message_id(self) -> str:
        """The Message-ID, the same for every attempt, so that a repeat is recognised."""
        return f"<{self.id}@{self.sender.domain}>"

    @property
    def headers_with_id(self) -> tuple[tuple[str, str], ...]:
        """The headers that a mail API has to be given."""
        return (*self.headers, ("Message-ID", self.message_id))

    async def to_signed_bytes(self) -> bytes:
        """The mail as a server is to get it, signed if it is to be; the signing is done beside the event loop."""
        content = self.to_bytes()
        return content if self.sign is None else await asyncio.to_thread(self.sign, content)

    def to_bytes(self) -> bytes:
        """The mail as it goes over the wire (RFC 5322, 2045), lines ended by CRLF, dots not yet stuffed."""
        lines = [
            f"From: {self.sender.header}",
            f"To: <{self.to.address}>",
            f"Subject: {encode_text(self.subject, len('Subject: '))}",
            f"Date: {format_datetime(datetime.now(UTC))}",
            f"Message-ID: {self.message_id}",
            *(f"{name}: {value}" for name, value in self.headers),
            "",
        ]
        return b"".join(("\r\n".join(lines).encode(), _HEAD, _quoted(self.text), _MIDDLE, _quoted(self.html), _END))


def one_line(text: str) -> str:
    """The text fit for a header and a line: no control character, line break or invisible mark is left in it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text).strip()


def left_to_right(text: str) -> str:
    """The text in an isolate of its own where it has characters that run to the left, so that it turns nothing around.

    For places where markup can't do it: U+2066 and U+2069 are LEFT-TO-RIGHT ISOLATE and its end.
    """
    return f"\u2066{text}\u2069" if any(bidirectional(c) in _LEFTWARD for c in text) else text


def encode_text(text: str, used: int) -> str:
    """A header's text: as it is where that is short ASCII, else in encoded words (RFC 2047), folded.

    `used` is how much of the first line the header's name takes.
    """
    text = _BREAKS.sub(" ", text).strip() if _BREAKS.search(text) else text
    if text.isascii() and "=?" not in text and len(text) + used <= LONGEST_LINE:
        return text
    words, chunk = [], b""
    for character in text:
        octets = character.encode()
        if len(chunk) + len(octets) > _WORD_OCTETS:
            words.append(chunk)
            chunk = b""
        chunk += octets
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?B?{b64encode(word).decode()}?=" for word in words)


def _phrase(name: str) -> str:
    """A display name: an atom's words as they are, else quoted, else encoded."""
    if not name.isascii() or "=?" in name or len(name) > LONGEST_LINE - 10:
        return encode_text(name, LONGEST_LINE)
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted(text: str) -> bytes:
    lines = "\n".join(text.splitlines()) + "\n"
    return b2a_qp(lines.encode("utf-8", "replace"), istext=True).replace(b"\n", b"\r\n")

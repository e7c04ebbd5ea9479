"""What the development inbox shows of a mail: parsed once on arrival, without trusting a byte of it."""

from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.errors import HeaderParseError, MessageError
from email.header import decode_header, make_header
from email.message import Message

_BROKEN = (MessageError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What the email package raises on mails made to break it."""


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """One mail. `recipients` come from the envelope, the rest from the mail itself, as far as it can be read."""

    number: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    from_: str
    to: str
    subject: str
    text: str
    html: str | None
    source: bytes


def parse(source: bytes, *, number: int, received_at: datetime, sender: str, recipients: list[str]) -> ReceivedMail:
    """Read a mail; never fails: what cannot be understood is shown as it came."""
    try:
        message = message_from_bytes(source)
        text, html = _parts(message)
        from_, to, subject = (_header(message, name) for name in ("From", "To", "Subject"))
    except _BROKEN as error:
        from_ = to = ""
        subject, html = f"(this mail cannot be read: {type(error).__name__})", None
        text = source.decode("utf-8", "replace")
    return ReceivedMail(
        number=number,
        received_at=received_at,
        sender=sender,
        recipients=tuple(recipients),
        from_=from_,
        to=to,
        subject=subject,
        text=text,
        html=html,
        source=source,
    )


def _parts(message: Message) -> tuple[str, str | None]:
    text = html = None
    for part in message.walk():
        if part.is_multipart() or part.get_filename() is not None:
            continue
        if part.get_content_type() == "text/plain" and text is None:
            text = _content(part)
        elif part.get_content_type() == "text/html" and html is None:
            html = _content(part)
    return text or "", html


def _content(part: Message) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        return data.decode(part.get_content_charset("utf-8"), "replace").replace("\r\n", "\n")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace").replace("\r\n", "\n")


def _header(message: Message, name: str) -> str:
    values = [str(value) for given, value in message.raw_items() if given.lower() == name.lower()]
    # Bytes that were not ASCII arrive as lone surrogates; such a header is UTF-8 (RFC 6532), or nothing we know.
    raw = values[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace") if values else ""
    return " ".join((_decoded(raw) if raw.isascii() else raw).split())


def _decoded(raw: str) -> str:
    try:
        return str(make_header(decode_header(raw)))
    except (HeaderParseError, LookupError, ValueError):
        return raw

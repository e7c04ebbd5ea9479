"""The development inbox's HTML. Everything that came with a mail is escaped here, or shut in a sandbox."""

import re
from collections.abc import Sequence
from html import escape

from portier_broker.received_mail import ReceivedMail

HTML_PART_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)
"""No script, no remote content, an origin of its own; links open in a new tab, as they would from a mail program."""

_LINK = re.compile(r"https?://[^\s<>\"']+")
_CODE = re.compile(r"[a-z0-9]{6} [a-z0-9]{6}")
_LONGEST_TEXT = 20_000  # characters shown; the source has the rest


def inbox_page(mails: Sequence[ReceivedMail], *, version: int) -> str:
    """The whole page; `version` changes with every mail, and the page's script looks for that."""
    body = "".join(map(_mail, mails)) or "<p>No mail yet. This page refreshes itself.</p>"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>({len(mails)}) Development inbox</title>
<link rel="stylesheet" href="/inbox.css">
<script src="/inbox.js" defer></script>
<noscript><meta http-equiv="refresh" content="3"></noscript>
</head>
<body data-version="{version}">
<header><h1>Development inbox</h1>
<p>Every mail the broker sends here, newest first. <a href="/mails.json">JSON</a></p></header>
<main>{body}</main>
</body>
</html>
"""


def _mail(mail: ReceivedMail) -> str:
    received = f"{mail.received_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"""
<article aria-labelledby="mail-{mail.number}">
<h2 id="mail-{mail.number}">{escape(mail.subject) or "(no subject)"}</h2>
<dl>
<dt>From</dt><dd>{escape(mail.from_ or mail.sender)}</dd>
<dt>To</dt><dd>{escape(mail.to or ", ".join(mail.recipients))}</dd>
<dt>Received</dt><dd><time datetime="{mail.received_at.isoformat()}">{received}</time></dd>
</dl>
<pre>{_text(mail.text[:_LONGEST_TEXT])}</pre>
{_html_frame(mail)}
<p><a href="/mails/{mail.number}/source">Source</a></p>
</article>"""


def _html_frame(mail: ReceivedMail) -> str:
    if mail.html is None:
        return ""
    return f"""<details><summary>HTML part</summary>
<iframe src="/mails/{mail.number}/html" sandbox="allow-popups allow-popups-to-escape-sandbox" loading="lazy"
 title="HTML part of mail {mail.number}"></iframe></details>"""


def _text(text: str) -> str:
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    if _CODE.fullmatch(line.strip()):
        return f'<strong class="code">{escape(line)}</strong>'
    shown, end = [], 0
    for link in _LINK.finditer(line):
        url = escape(link.group())
        shown += [
            escape(line[end : link.start()]),
            f'<a href="{url}" target="_blank" rel="noopener noreferrer">{url}</a>',
        ]
        end = link.end()
    return "".join([*shown, escape(line[end:])])


def html_part(html: str) -> str:
    """The mail's HTML, its links made to open in a tab of their own, since the frame can show none of them."""
    return f'<!doctype html><meta charset="utf-8"><base target="_blank">{html}'

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTPUTF8

import aiosmtplib
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portier_broker.inbox import LARGEST_MAIL, MOST_MAILS, running_inbox
from portier_broker.inbox_pages import inbox_page
from portier_broker.ports import listening_socket, port_of
from portier_broker.received_mail import parse

LINK = "http://localhost:3333/confirm?session=a&code=b"


class Running:
    def __init__(self, smtp: int, client: httpx.AsyncClient) -> None:
        self.smtp = smtp
        self.client = client

    async def send(self, mail: EmailMessage | bytes, *, sender: str = "a@here.test", to: str = "b@there.test") -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=self.smtp, start_tls=False) as smtp:
            if isinstance(mail, bytes):
                await smtp.sendmail(sender, [to], mail)
            else:
                options = [] if to.isascii() else ["SMTPUTF8"]
                await smtp.sendmail(sender, [to], mail.as_bytes(policy=SMTPUTF8), mail_options=options)

    async def mails(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await self.client.get("/mails.json")).json()
        return found


@pytest.fixture
async def inbox() -> AsyncIterator[Running]:
    smtp, web = listening_socket(0), listening_socket(0)
    async with (
        running_inbox(smtp=smtp, web=web),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port_of(web)}", trust_env=False) as client,
    ):
        yield Running(port_of(smtp), client)


def login_mail() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Portier <noreply@broker.test>"
    mail["To"] = "björn@göteborg.test"
    mail["Subject"] = "Finish logging in to http://localhost:3381, é"
    mail.set_content(f"Your code:\n\nabc123 def456\n\nor\n\n{LINK}\n")
    mail.add_alternative("<h1>Hello</h1><script>alert(1)</script>", subtype="html")
    return mail


async def test_mail_is_shown_with_its_code_and_a_link_to_click(inbox: Running) -> None:
    await inbox.send(login_mail())
    [mail] = await inbox.mails()
    assert mail["subject"] == "Finish logging in to http://localhost:3381, é"
    assert mail["from"] == "Portier <noreply@broker.test>"
    assert mail["to"] == "björn@göteborg.test"
    assert (mail["sender"], mail["recipients"]) == ("a@here.test", ["b@there.test"])
    assert "abc123 def456" in str(mail["text"]).splitlines()
    assert LINK in str(mail["text"]).splitlines()
    page = (await inbox.client.get("/")).text
    assert '<strong class="code">abc123 def456</strong>' in page
    assert f'<a href="{LINK.replace("&", "&amp;")}" target="_blank" rel="noopener noreferrer">' in page
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page


async def test_page_knows_by_its_version_that_another_mail_came(inbox: Running) -> None:
    before = (await inbox.client.get("/version")).text
    assert f'data-version="{before}"' in (await inbox.client.get("/")).text
    await inbox.send(login_mail())
    assert (await inbox.client.get("/version")).text != before
    for path, media_type in {"/inbox.js": "text/javascript", "/inbox.css": "text/css"}.items():
        assert (await inbox.client.get(path)).headers["content-type"].startswith(media_type)


async def test_html_part_cannot_run_script_or_load_anything(inbox: Running) -> None:
    await inbox.send(login_mail())
    answer = await inbox.client.get("/mails/1/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "<h1>Hello</h1>" in answer.text


async def test_source_is_plain_text_whatever_is_in_it(inbox: Running) -> None:
    await inbox.send(b"Subject: x\r\n\r\n<script>alert(1)</script>\r\n")
    answer = await inbox.client.get("/mails/1/source")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" in answer.text


@pytest.mark.parametrize("path", ["/mails/1/html", "/mails/99/source", "/elsewhere"])
async def test_what_is_not_there_is_404(inbox: Running, path: str) -> None:
    await inbox.send(b"Subject: x\r\n\r\nonly text\r\n")
    assert (await inbox.client.get(path)).status_code == 404


HOSTILE = {
    "script in every place": b'From: <script>1</script>\r\nTo: "<img src=x onerror=1>"\r\n'
    b'Subject: </h2><script>2</script>\r\n\r\n<script>3</script> http://x.test/"onmouseover=alert(1)\r\n',
    "unknown charset": b"Content-Type: text/plain; charset=klingon\r\nSubject: =?klingon?B?AAAA?=\r\n\r\n\xff\xfe\r\n",
    "broken base64": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n$$$$=A\r\n",
    "broken encoded word": b"Subject: =?utf-8?B?A?=\r\n\r\n.\r\n",
    "header that is no text": b"Subject: \xff\xfe\x00caf\xe9\r\nContent-Type: \xff\r\n\r\n.\r\n",
    "boundary that never comes": b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno part at all\r\n",
    "multipart without boundary": b"Content-Type: multipart/alternative\r\n\r\ntext\r\n",
    "charset with continuation": b"Content-Type: text/plain; charset*0*=''%ff; charset*1*=%\r\n\r\n.\r\n",
    "message in message": b"Content-Type: message/rfc822\r\n\r\n" * 2 + b"Subject: in\r\n\r\n.\r\n",
    "nested deep": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(2000)
    ),
    "NUL in the charset": b'Content-Type: text/plain; charset="utf\x00-8"\r\n\r\n.\r\n',
    "nothing": b"",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_mail_is_taken_and_shown_without_harm(inbox: Running, source: bytes) -> None:
    await inbox.send(source)
    assert len(await inbox.mails()) == 1
    page = await inbox.client.get("/")
    assert page.status_code == 200
    for harmful in ("<script>", "<img", '"onmouseover', "</h2><"):
        assert harmful not in page.text


@given(st.binary(max_size=300))
def test_any_bytes_can_be_parsed_and_shown(source: bytes) -> None:
    mail = parse(source, number=1, received_at=datetime.now(UTC), sender="", recipients=[])
    inbox_page([mail], version=1).encode()


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_of_a_mail_becomes_markup(subject: str, text: str) -> None:
    mail = parse(b"", number=1, received_at=datetime.now(UTC), sender=subject, recipients=[text])
    plain = parse(b"", number=1, received_at=mail.received_at, sender="", recipients=[""])
    shown, bare = inbox_page([mail], version=1), inbox_page([plain], version=1)
    assert shown.count("<") == bare.count("<")


async def test_mail_beyond_the_bound_is_refused_and_the_next_one_taken(inbox: Running) -> None:
    with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
        await inbox.send(b"Subject: huge\r\n\r\n" + b"x" * 70 * (LARGEST_MAIL // 70) + b"\r\n" * 100)
    assert refused.value.code in (500, 552)
    lines = b"x" * 70 + b"\r\n"
    with pytest.raises(aiosmtplib.SMTPResponseException):
        await inbox.send(b"Subject: many lines\r\n\r\n" + lines * (LARGEST_MAIL // 70))
    await inbox.send(login_mail())
    assert len(await inbox.mails()) == 1


async def test_only_the_last_mails_are_kept(inbox: Running) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=inbox.smtp, start_tls=False) as smtp:
        for number in range(MOST_MAILS + 5):
            await smtp.sendmail("a@here.test", ["b@there.test"], f"Subject: {number}\r\n\r\n.\r\n".encode())
    mails = await inbox.mails()
    assert len(mails) == MOST_MAILS
    assert mails[0]["subject"] == str(MOST_MAILS + 4)


async def test_address_beyond_ascii_is_taken(inbox: Running) -> None:
    await inbox.send(login_mail(), to="björn@göteborg.test")
    [mail] = await inbox.mails()
    assert mail["recipients"] == ["björn@göteborg.test"]


async def test_page_of_another_site_whose_name_points_here_is_refused(inbox: Running) -> None:
    assert (await inbox.client.get("/mails.json", headers={"Host": "attacker.test"})).status_code == 400


async def test_every_page_allows_nothing_from_elsewhere(inbox: Running) -> None:
    for path in ("/", "/mails.json", "/elsewhere"):
        headers = (await inbox.client.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"

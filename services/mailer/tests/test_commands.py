"""The command line, as an operator uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_line import Mailer, run
from .smtp_server import SmtpServer, only


@pytest.mark.parametrize(("locale", "words"), [("en", "You asked"), ("fr-CA", "courriel"), ("nl", "Negeer")])
async def test_render_prints_the_mail(locale: str, words: str) -> None:
    status, text = await run(Mailer("redis://unused"), "render", "--locale", locale)
    assert status == 0
    assert words in text
    status, text = await run(Mailer("redis://unused"), "render", "--locale", locale, "--html")
    assert f'<html lang="{locale}"' in text


async def test_render_opens_the_mail_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    status, text = await run(Mailer("redis://unused"), "render", "--locale", "fr", "--open")
    page = Path(text.strip())
    assert status == 0
    assert (tmp_path / "opened").read_text().strip() == page.as_uri()
    assert '<html lang="fr"' in page.read_text()
    page.unlink()


async def test_send_test_tells_what_the_server_said() -> None:
    async with SmtpServer() as server:
        mailer = Mailer("redis://unused", server.port)
        assert await run(mailer, "send-test", "jane@example.org", "--locale", "de") == (
            0, "delivered (smtp: content 250 2.0.0)\n"
        )  # fmt: skip
        assert server.recipients == ["jane@example.org"]
        assert server.received[0].message["Content-Language"] == "de"
        server.rules.answer = only("RCPT", "550 5.1.1 no")
        assert await run(mailer, "send-test", "jane@example.org") == (1, "give_up (smtp: rcpt 550 5.1.1)\n")
        status, text = await run(mailer, "send-test", "no address")
        assert (status, "Traceback" in text) == (1, False)


async def test_transports_are_checked_without_sending() -> None:
    async with SmtpServer() as server:
        status, text = await run(Mailer("redis://unused", server.port), "transports")
        assert (status, text) == (0, f"smtp: 127.0.0.1:{server.port}, no TLS, offers PIPELINING, SMTPUTF8, 8BITMIME\n")
        assert not server.received
    status, text = await run(Mailer("redis://unused", 1), "transports")
    assert status == 1
    assert "Connect" in text


async def test_check_and_version_need_no_server() -> None:
    status, text = await run(Mailer("redis://unused"), "run", "--check")
    assert (status, "smtp_server" in text) == (0, True)
    status, text = await run(Mailer("redis://unused"), "--version")
    assert (status, text.startswith("mailer ")) == (0, True)

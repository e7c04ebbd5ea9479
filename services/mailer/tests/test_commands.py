"""The command line, as an operator uses it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from shared_store.dead_letters import DeadJob
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.store import Store

from .processes import enqueue, job
from .smtp_server import SmtpServer, only

QUEUE = MailQueue()


class Mailer:
    """Runs `mailer …`."""

    def __init__(self, url: str, smtp_port: int = 1) -> None:
        given = {"REDIS_URL": url, "FROM_ADDRESS": "login@broker.example", "SMTP_SERVER": f"127.0.0.1:{smtp_port}"}
        self._environment = {**os.environ, **{f"BROKER_{name}": value for name, value in given.items()}}

    def set(self, **settings: str) -> None:
        """Set more of the configuration."""
        self._environment |= {f"BROKER_{name.upper()}": value for name, value in settings.items()}

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mailer", *arguments],
            env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def at_a_terminal(self, *arguments: str) -> str:
        """The same with a terminal on the other end; gives what appears there."""
        ours, its = pty.openpty()
        command = [sys.executable, "-P", "-m", "mailer", *arguments]
        done = subprocess.run(
            command, env=self._environment, stdin=its, stdout=its, stderr=subprocess.PIPE, timeout=60, check=False
        )
        os.close(its)
        assert done.returncode == 0, done.stderr
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123  a file descriptor
            return terminal.read(65_536).decode()


async def run(mailer: Mailer, *arguments: str) -> tuple[int, str]:
    """Run it in a thread, so that servers in this process go on."""
    return await asyncio.to_thread(mailer, *arguments)


async def test_queue_is_looked_into_and_mended_without_showing_a_person(valkey_url: str, valkey_store: Store) -> None:
    mailer = Mailer(valkey_url)
    one, two, three = (job(f"jane{number}@example.org") for number in range(3))
    await enqueue(valkey_store, one, two, three)
    await valkey_store.run(QUEUE.register("w", lease=60))
    await valkey_store.run(QUEUE.claim("w", room=2, known=[]))
    await valkey_store.run(QUEUE.delay("w", one, seconds=500))
    await valkey_store.run(QUEUE.bury("w", DeadJob.of(two, "expired", 1.0), Outcome.FAILED))
    output = ""

    async def ask(*arguments: str, code: int = 0) -> str:
        nonlocal output
        status, text = await run(mailer, "queue", *arguments)
        assert status == code, text
        output += text
        return text

    depth = json.loads(await ask("depth", "--json"))
    assert (depth["ready"], depth["delayed"], depth["dead"], depth["in_hand"]) == (1, 1, 1, {"w": 0})
    assert "in hand of w: 0" in await ask("depth")
    listed = await ask("list")
    assert f"{three.id} ready" in listed
    assert f"{one.id} in" in listed
    assert json.loads(await ask("--json")) == {
        **depth,
        "oldest_seconds": pytest.approx(depth["oldest_seconds"], abs=60),
    }
    shown = json.loads(await ask("show", one.id))
    assert (shown["site"], shown["to"], shown["code"], shown["link"]) == (
        "https://shop.example", "j***@example.org", "***", "***"
    )  # fmt: skip
    assert "at a terminal only" in await ask("show", one.id, "--reveal", code=1)
    assert two.id in await ask("dead")
    assert "done" in await ask("retry", one.id)
    assert "done" in await ask("drop", three.id)
    assert "no job" in await ask("drop", three.id, code=1)
    assert "no job" in await ask("show", "unknown", code=1)
    await ask("purge")
    assert await ask("dead") == ""
    assert not any(secret in output for secret in ("jane", "abcdef", "session="))


async def test_job_is_revealed_at_a_terminal(valkey_url: str, valkey_store: Store) -> None:
    asked = job("jane@example.org")
    await enqueue(valkey_store, asked)
    shown = await asyncio.to_thread(Mailer(valkey_url).at_a_terminal, "queue", "show", asked.id, "--reveal", "--json")
    assert json.loads(shown)["to"] == "jane@example.org"
    assert json.loads(shown)["code"] == asked.code


async def test_what_another_version_wrote_is_masked_but_for_what_is_known_to_be_harmless(
    valkey_url: str, valkey_store: Store
) -> None:
    await valkey_store.client.hset(
        "mail:{mail}:jobs", mapping={"new": b'{"v":9,"email":"jane@x","locale":"nl"}', "junk": b"[1"}
    )
    status, text = await run(Mailer(valkey_url), "queue", "show", "new", "--json")
    assert (status, json.loads(text)) == (0, {"v": 9, "email": "***", "locale": "nl"})
    assert json.loads((await run(Mailer(valkey_url), "queue", "show", "junk"))[1]) == {"unreadable": 2}


async def test_queue_command_without_redis_says_so(tmp_path: object) -> None:  # noqa: ARG001
    status, text = await run(Mailer("redis://127.0.0.1:1"), "queue", "depth")
    assert status == 1
    assert "Redis can't be reached" in text
    assert "Traceback" not in text


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

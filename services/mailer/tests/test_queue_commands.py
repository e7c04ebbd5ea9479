"""`mailer queue`, as an operator uses it: every verb, on a queue that holds all there can be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_store.dead_letters import DeadJob
from shared_store.mail_queue import MailQueue, Outcome
from shared_store.store import Store
from shared_store.testing.servers import RedisServer, free_port

from .command_line import Mailer, run
from .processes import enqueue, job

QUEUE = MailQueue()


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
    assert "in hand of w (mail): 0" in await ask("depth")
    listed = (await ask("list")).splitlines()
    assert [line.split()[1:3] for line in listed[1:3]] == [[three.id, "ready"], [one.id, "delayed"]]
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
    assert "can't be sent again" in await ask("retry", two.id, code=1)
    assert "no job" in await ask("show", "unknown", code=1)
    assert await ask("purge") == "mail: 1 forgotten\n"
    assert await ask("dead") == "no mail was given up\n"
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
    place = {"queue": "mail", "place": "ready"}
    assert (status, json.loads(text)) == (0, {**place, "v": 9, "email": "***", "locale": "nl"})
    assert json.loads((await run(Mailer(valkey_url), "queue", "show", "junk"))[1]) == {**place, "unreadable": 2}


async def test_every_mail_is_listed_with_its_place_and_what_is_wrong_with_it(
    valkey_url: str, valkey_store: Store
) -> None:
    """With junk that something else wrote under our keys, and with a job of a newer auth-api."""
    mailer = Mailer(valkey_url)
    held, put_off, further = (job(f"jane@{name}.example") for name in ("held", "off", "further"))
    older, newer = (job("jane@login.example", id=f"{'c' * 32}-{number}") for number in (1, 2))
    await enqueue(valkey_store, held, put_off, further, older)
    await valkey_store.run(QUEUE.register("w", lease=60))
    await valkey_store.run(QUEUE.claim("w", room=9, known=[]))
    await valkey_store.run(QUEUE.delay("w", put_off.after_attempt("smtp: rcpt 451"), seconds=500))
    await valkey_store.run(QUEUE.delay("w", further, seconds=600))
    await enqueue(valkey_store, newer)
    await enqueue(valkey_store, job("jane@elsewhere.example"), tag="mail-9")
    await valkey_store.client.hset("mail:{mail}:jobs", "later", b'{"v":9,"to":7,"requested_at":"soon","history":3}')
    await valkey_store.client.rpush("mail:{mail}:ready", "later", b"\xff\x1b[31m", "gone")
    status, text = await run(mailer, "queue", "list", "--json")
    assert status == 0
    listed = {facts["job"]: facts for facts in map(json.loads, text.splitlines())}
    told = {name: (facts["place"], facts["domain"], facts["last"]) for name, facts in listed.items()}
    assert told[held.id] == ("in hand", "held.example", None)
    assert told[put_off.id] == ("delayed", "off.example", "smtp: rcpt 451")
    assert told["later"] == ("ready", None, "version 9, for a newer mailer")
    assert told["gone"] == told["\udcff\x1b[31m"] == ("ready", None, "unreadable")
    assert listed[held.id]["worker"] == "w"
    assert 490 < listed[put_off.id]["due_seconds"] <= 500
    assert listed[held.id]["age_seconds"] < 120
    assert "mail-9" in {facts["queue"] for facts in listed.values()}
    status, text = await run(mailer, "queue", "list")
    assert (status, "\x1b" in text) == (0, False)
    assert "NO MAILER serves mail-9" in (await run(mailer, "queue"))[1]
    assert json.loads((await run(mailer, "queue", "show", newer.id))[1])["place"] == "behind"
    for name, said in ((held.id, "w has it in hand"), (newer.id, "an older mail of the same login"), ("gone", "done")):
        assert said in (await run(mailer, "queue", "retry", name))[1]
    assert (await run(mailer, "queue", "retry", "--all"))[1] == "2 brought forward\n"
    assert [name for name, _ in await valkey_store.run(QUEUE.waiting(most=2))] == [put_off.id, further.id]


async def test_deaths_of_a_bad_night_are_summed_up_by_reason_and_answer(valkey_url: str, valkey_store: Store) -> None:
    await valkey_store.run(QUEUE.register("w", lease=60))
    asked = [job("jane@example.org") for _ in range(30)]
    await enqueue(valkey_store, *asked)
    await valkey_store.run(QUEUE.claim("w", room=30, known=[]))
    for number, one in enumerate(asked):
        reason, answer = ("rejected", "smtp: rcpt 550 5.1.1") if number % 10 == 0 else ("expired", "smtp: connect")
        dead = DeadJob.of(one.after_attempt(answer), reason, 1_800_000_000.0 + number)
        await valkey_store.run(QUEUE.bury("w", dead, Outcome.FAILED))
    await valkey_store.client.rpush("mail:{mail}:dead", b'{"id":"x","reason":"r","time":"soon","history":[]}')
    status, text = await run(Mailer(valkey_url), "queue", "dead", "--most", "2")
    letters, _, summary = text.partition("\n\n")
    assert (status, len(letters.splitlines())) == (0, 3)
    assert [line.split()[:2] for line in summary.splitlines()[1:]] == [
        ["27", "expired"], ["3", "rejected"], ["1", "unreadable"],
    ]  # fmt: skip
    assert "27     expired     2027-01-15T08:00:01Z  2027-01-15T08:00:29Z  smtp: connect" in summary


async def test_refused_password_is_told_without_showing_it(own_password: str) -> None:
    status, text = await run(Mailer(own_password), "queue")
    assert status == 1
    assert "password" in text
    assert not any(word in text for word in ("wrong-one", "Traceback"))


@pytest.fixture
def own_password() -> Iterator[str]:
    """A Redis that takes another password than that of the URL."""
    with RedisServer("redis7", port=free_port(), config={"requirepass": "right-one"}) as server:
        yield f"redis://:wrong-one@127.0.0.1:{server.port}"


@pytest.mark.parametrize("arguments", [("retry",), ("retry", "x", "--all"), ("list", "--most", "0"), ("show",)])
async def test_incomplete_or_contradictory_arguments_are_told(arguments: tuple[str, ...]) -> None:
    status, text = await run(Mailer("redis://unused"), "queue", *arguments)
    assert (status, "usage: mailer queue" in text) == (2, True)


async def test_queue_command_without_redis_says_so(tmp_path: object) -> None:  # noqa: ARG001
    status, text = await run(Mailer("redis://127.0.0.1:1"), "queue", "depth")
    assert status == 1
    assert "Redis can't be reached" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("verb", ["queue list", "queue purge", "suppressions list", "suppressions lift a@b.example"])
@pytest.mark.parametrize("behind", [1, 9], ids=["before the verb", "behind it"])
def test_configuration_file_is_read_on_either_side_of_the_verb(tmp_path: Path, verb: str, behind: int) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("no_such_setting = 1")
    words = verb.split()
    status, text = Mailer("redis://unused")(*words[:behind], "--config", str(file), *words[behind:])
    assert (status, "no_such_setting" in text, str(file) in text) == (2, True, True)


@pytest.mark.parametrize("words", [("queue",), ("queue", "dead"), ("suppressions", "list"), ("doctor",)])
async def test_commands_that_look_into_redis_need_no_way_to_send(valkey_url: str, words: tuple[str, ...]) -> None:
    mailer = Mailer(valkey_url)
    mailer.set(from_address="", smtp_server="no:port:at all", suppression_key="k" * 32)
    code, text = await run(mailer, *words)
    assert "smtp_server" not in text
    assert words == ("doctor",) or code == 0, text
    code, text = await run(mailer, "transports")
    assert (code, "smtp_server" in text) == (2, True)

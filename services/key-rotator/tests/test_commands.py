"""The commands, as an operator calls them, on a real server."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from key_rotator.__main__ import main
from shared_store.signing_keys import generate
from shared_store.testing.servers import RedisServer

OLD, NEW = "o" * 32, "n" * 32


pytestmark = pytest.mark.usefixtures("logging_as_before")


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(valkey_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `key-rotator …` against an empty server; keyword arguments are settings."""
    monkeypatch.setenv("BROKER_REDIS_URL", valkey_url)
    monkeypatch.setenv("BROKER_SIGNING_ALGS", "EdDSA")

    def call(*arguments: str, **settings: str) -> Outcome:
        for name, value in settings.items():
            monkeypatch.setenv(f"BROKER_{name.upper()}", value)
        monkeypatch.setattr(sys, "argv", ["key-rotator", *arguments])
        code = main()
        shown = capsys.readouterr()
        return Outcome(code, shown.out, shown.err)

    return call


def _kids(call: Call) -> list[str]:
    status = json.loads(call("status", "--json").out)
    return [key["kid"] for keys in status["key_sets"].values() if keys for key in keys["keys"]]


def _changes(call: Call) -> list[str]:
    return [entry["change"] for entry in json.loads(call("log", "--json").out)]


def test_rotate_makes_the_first_keys_and_then_lets_the_next_one_sign(call: Call) -> None:
    assert call("status").code == 1
    made = call("rotate")
    assert made.code == 0
    first = _kids(call)
    assert f"there were no keys, so the first ones were made; {first[0]} signs from now on" in made.out
    early = call("rotate")
    assert early.code == 1
    assert "may not know the next key before" in early.err
    rotated = call("rotate", "--now")
    assert rotated.code == 0
    assert rotated.out.startswith(f"EdDSA: {first[1]} signs from now on")
    assert _kids(call)[0] == first[1]
    assert _changes(call) == ["rotate", "create"]


def test_revoked_current_key_is_gone_and_the_log_tells_who_did_it_and_why(call: Call) -> None:
    call("rotate")
    current, following = _kids(call)
    revoked = call("revoke", current, "--reason", "laptop stolen\x1b[2J")
    assert revoked.code == 0
    assert f"revoked {current}; {following} signs from now on" in revoked.out
    assert "86400 s more" in revoked.out
    assert current not in _kids(call)
    assert _kids(call)[0] == following
    told = call("log").out
    assert "revoke" in told
    assert f"{current} laptop stolen?[2J" in told
    assert "@" in told


@pytest.mark.parametrize("kid", ["-" + "a" * 42, "-h" + "a" * 41, "--" + "a" * 41])
def test_id_that_begins_with_a_dash_is_no_option(call: Call, kid: str) -> None:
    call("rotate")
    for arguments in ((kid, "--reason", "stolen"), ("--reason", "stolen", "b" * 43, kid), ("--", kid)):
        told = call("revoke", *arguments)
        assert told.code == 1
        assert kid in told.err


def test_reason_that_looks_like_an_id_stays_the_reason(call: Call) -> None:
    call("rotate")
    current, _ = _kids(call)
    kid, reason = f"-{'a' * 42}", "r" * 43
    assert call("revoke", current, "--reason", reason).code == 0
    assert call("revoke", kid, "--reason", reason).code == 1
    assert reason in call("log").out


def test_all_keys_of_all_algorithms_can_be_revoked(call: Call) -> None:
    call("rotate", signing_algs="EdDSA,RS256")
    before = _kids(call)
    assert len(before) == 4
    assert call("revoke", "--all").code == 0
    after = _kids(call)
    assert len(after) == 4
    assert set(before).isdisjoint(after)


@pytest.mark.parametrize("arguments", [[], ["no-such-kid"], ["--all", "some-kid"]])
def test_revocation_that_is_not_clear_changes_nothing(call: Call, arguments: Sequence[str]) -> None:
    call("rotate")
    before = _kids(call)
    refused = call("revoke", *arguments)
    assert refused.code == 1
    assert "kid" in refused.err.lower()
    assert _kids(call) == before


def test_one_unknown_kid_among_known_ones_changes_nothing(call: Call) -> None:
    call("rotate")
    before = _kids(call)
    assert call("revoke", before[0], "unknown").code == 1
    assert _kids(call) == before


def test_revoked_key_can_not_be_imported_again(call: Call, tmp_path: Path) -> None:
    call("rotate")
    assert call("export", str(tmp_path / "keys.pem")).code == 0
    revoked = _kids(call)[1]
    call("revoke", revoked)
    refused = call("import", str(tmp_path / "keys.pem"))
    assert refused.code == 1
    assert f"{revoked} was revoked" in refused.err
    assert revoked not in _kids(call)


def test_export_is_logged_and_its_file_is_for_the_owner_alone_and_not_overwritten(call: Call, tmp_path: Path) -> None:
    call("rotate")
    file = tmp_path / "keys.pem"
    assert call("export", str(file)).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert call("export", str(file)).code == 1
    assert call("export", str(file), "--force").code == 0
    assert _changes(call)[0] == "export"


def test_imported_keys_sign_and_their_times_start_anew(call: Call, tmp_path: Path) -> None:
    keys = [generate("EdDSA") for _ in range(3)]
    (tmp_path / "keys.pem").write_text("".join(key.private_pem for key in keys))
    tried = call("import", str(tmp_path / "keys.pem"), "--dry-run")
    assert (tried.code, "Nothing was written" in tried.out) == (0, True)
    assert call("status").code == 1
    assert call("import", str(tmp_path / "keys.pem")).code == 0
    assert _kids(call) == [key.kid for key in keys]
    assert _changes(call) == ["import"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nothing here", "there is no EdDSA key in it"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "block 1"),
        ("".join(generate("EdDSA").private_pem for _ in range(4)), "block 4 is a fourth EdDSA key"),
        (generate("EdDSA").private_pem * 2, "blocks 1 and 2 are the same key"),
        (generate("RS256").private_pem, "there is no EdDSA key in it"),
    ],
)
def test_file_that_can_not_be_used_whole_is_not_imported_at_all(
    call: Call, tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "keys.pem").write_text(content)
    refused = call("import", str(tmp_path / "keys.pem"))
    assert refused.code == 1
    assert told in refused.err
    assert call("status").code == 1


def test_key_encryption_key_is_changed_without_a_moment_in_which_keys_can_not_be_opened(call: Call) -> None:
    call("rotate", key_encryption_key=OLD)
    kids = _kids(call)
    assert "is not configured" in call("status", key_encryption_key=NEW).err
    both = f"{NEW},{OLD}"
    assert _kids(lambda *words: call(*words, key_encryption_key=both)) == kids
    assert "sealed anew" in call("reseal").out
    assert "already" in call("reseal").out
    assert _kids(lambda *words: call(*words, key_encryption_key=NEW)) == kids
    assert call("status", key_encryption_key=OLD).code == 1


def test_key_set_that_can_not_be_opened_is_not_replaced_unasked(call: Call, tmp_path: Path) -> None:
    call("rotate", key_encryption_key=OLD)
    (tmp_path / "keys.pem").write_text(generate("EdDSA").private_pem)
    refused = call("import", str(tmp_path / "keys.pem"), key_encryption_key=NEW)
    assert refused.code == 1
    assert "give --force" in refused.err
    assert call("import", str(tmp_path / "keys.pem"), "--force").code == 0
    assert len(_kids(call)) == 2


def _rust_json(*keys: tuple[str, int] | None, previous: str | None = None) -> str:
    current, following = (
        key and {"value": key[0], "expires": {"secs_since_epoch": key[1], "nanos_since_epoch": 0}} for key in keys
    )
    return json.dumps({"signing_alg": "EdDSA", "current": current, "next": following, "previous": previous})


@pytest.fixture
def old_broker() -> RedisServer:
    """The Redis of a Rust broker, not started yet."""
    return RedisServer("redis7", config={"enable-debug-command": "yes"})


def test_keys_of_a_rust_broker_are_taken_over_and_its_redis_is_only_read(call: Call, old_broker: RedisServer) -> None:
    keys = [generate("EdDSA") for _ in range(3)]
    text = _rust_json(
        (keys[0].private_pem, 4_000_000_000), (keys[1].private_pem, 4_000_086_400), previous=keys[2].private_pem
    )
    with old_broker as server:
        server.ask("SET", "keys:EdDSA", text)
        server.ask("SET", "session:abc", "{}")
        before = server.ask("DEBUG", "DIGEST")
        adopted = call("import", "--from-redis", server.url)
        assert server.ask("DEBUG", "DIGEST") == before
    assert adopted.code == 0
    assert _kids(call) == [key.kid for key in keys]
    assert "from another broker's Redis" in call("log").out


def test_rust_broker_without_keys_or_without_an_answer_is_told(call: Call, old_broker: RedisServer) -> None:
    with old_broker as server:
        assert "there are no EdDSA keys" in call("import", "--from-redis", server.url).err
    assert "nothing was adopted" in call("import", "--from-redis", "redis://127.0.0.1:1").err
    assert call("status").code == 1

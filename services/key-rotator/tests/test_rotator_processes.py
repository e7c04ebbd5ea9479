"""Real key-rotator processes, killed and stopped at any moment; somebody signs, somebody verifies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from shared_store.key_sets import KeySet, KeySets
from shared_store.sealing import Sealer
from shared_store.signing_keys import SIGNING_ALGS, SigningAlg, generate
from shared_store.store import Store
from shared_store.testing.servers import RedisServer, free_port, wait_until

ROTATIONS = 50
SIGTERM_BOUND = 20.0  # seconds


class RotatorProcess:
    """One `python -m key_rotator run`, its log in a file."""

    def __init__(self, redis_url: str, log: Path, **settings: object) -> None:
        self.log = log
        variables = {f"BROKER_{name.upper()}": str(value) for name, value in settings.items()}
        self._environ = {
            "PATH": os.environ["PATH"], "BROKER_REDIS_URL": redis_url, "BROKER_INTERNAL_PORT": "0", **variables
        }  # fmt: skip
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "key_rotator", "run"], env=self._environ, stderr=log)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def events(self) -> list[dict[str, object]]:
        lines = self.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def has_told(self, event: str) -> bool:
        return any(told["event"] == event for told in self.events())


@contextlib.contextmanager
def _ending(*rotators: RotatorProcess) -> Iterator[None]:
    try:
        yield
    finally:
        for rotator in rotators:
            rotator.process.send_signal(signal.SIGCONT)
            rotator.kill()


class RelyingParty:
    """Keeps the keys that it fetched, and fetches again only when it meets a kid that it does not know."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._keys: dict[str, jwt.PyJWK] = {}

    def verify(self, token: str) -> None:
        kid = jwt.get_unverified_header(token)["kid"]
        if kid not in self._keys:
            published = (key.key.public_jwk for keys in self._watcher.now.values() for key in keys.published())
            self._keys = {jwk["kid"]: jwt.PyJWK(dict(jwk)) for jwk in published}
        jwt.decode(token, self._keys[kid], algorithms=list(SIGNING_ALGS), options={"verify_exp": False})


class Watcher:
    """Looks at each change of the keys, signs with the current one, and has every valid token verified."""

    def __init__(self, store: Store, token_ttl: float) -> None:
        self.now: dict[SigningAlg, KeySet] = {}
        self.rotations = 0
        self.renewals = 0
        self._store = store
        self._token_ttl = token_ttl
        self._key_sets = KeySets(Sealer())
        self._tokens: dict[str, tuple[float, str]] = {}  # of each key the last one, and when it expires
        self._patient = RelyingParty(self)
        self._kids: set[str] = set()

    async def look(self) -> None:
        before = dict(self.now)
        for alg in SIGNING_ALGS:
            loaded = await self._store.run(self._key_sets.load(alg))
            if loaded.key_set is None:
                assert alg not in self.now, "the keys went away"
                continue
            self._note(loaded.key_set)
            key = loaded.key_set.current.key
            token = jwt.encode({"sub": "x"}, key.private_key, algorithm=alg, headers={"kid": key.kid})
            self._tokens[key.kid] = (loaded.time + self._token_ttl, token)
            self._tokens = {kid: kept for kid, kept in self._tokens.items() if kept[0] > loaded.time}
        if self.now != before:
            newcomer = RelyingParty(self)
            for _, token in self._tokens.values():
                self._patient.verify(token)
                newcomer.verify(token)

    def _note(self, key_set: KeySet) -> None:
        before = self.now.get(key_set.alg)
        kids = [published.key.kid for published in key_set.published()]
        assert len(set(kids)) == len(kids)
        if before is not None and before.version != key_set.version:
            assert key_set.version > before.version
            if key_set.current.key != before.current.key:
                assert key_set.current.key.kid not in self._kids, "a key signs again that was retired"
                self.rotations += 1
                self.renewals += key_set.current.key != before.next.key
        self._kids.add(key_set.current.key.kid)
        self.now[key_set.alg] = key_set


@pytest.mark.setting("keys_ttl")
async def test_rotators_killed_at_random_never_leave_a_token_that_does_not_verify(
    valkey_url: str, valkey_store: Store, tmp_path: Path
) -> None:
    chance = random.Random(4)
    settings = {"keys_ttl": 1, "token_ttl": 3, "signing_algs": "RS256,EdDSA"}
    rotators = [RotatorProcess(valkey_url, tmp_path / f"{number}.log", **settings) for number in range(2)]
    watcher = Watcher(valkey_store, token_ttl=3)
    kills = 0
    with _ending(*rotators):
        async with asyncio.timeout(100):
            loop = asyncio.get_running_loop()
            next_kill = loop.time() + 3
            while watcher.rotations < ROTATIONS:
                await watcher.look()
                await asyncio.sleep(0.01)
                if loop.time() > next_kill:
                    victim = chance.choice(rotators)
                    await asyncio.to_thread(victim.kill)
                    victim.start()
                    kills += 1
                    next_kill = loop.time() + chance.uniform(2, 5)  # a rotator that comes back has to get to work
    assert kills >= 5
    assert watcher.renewals < ROTATIONS / 2, "rotators were hardly ever there"
    assert not any(rotator.has_told("keys_not_looked_after") for rotator in rotators)


@pytest.mark.setting("generate_rsa_command")
async def test_rotator_stopped_in_the_middle_of_a_rotation_writes_nothing_when_it_goes_on(
    valkey_url: str, valkey_store: Store, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_text(generate("RS256").private_pem)
    script = tmp_path / "make-key"
    script.write_text(f"cd {tmp_path}; touch asked; while [ ! -e go ]; do sleep 0.02; done; exec openssl genrsa 2048\n")
    stopped = RotatorProcess(valkey_url, tmp_path / "stopped.log", keys_ttl=10, generate_rsa_command=f"sh,{script}")
    with _ending(stopped):
        await asyncio.to_thread(wait_until, (tmp_path / "asked").exists)
        stopped.process.send_signal(signal.SIGSTOP)
        other = RotatorProcess(valkey_url, tmp_path / "other.log", keys_ttl=10)
        with _ending(other):
            await asyncio.to_thread(wait_until, lambda: other.has_told("keys_ready"))
            (tmp_path / "go").touch()
            stopped.process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(wait_until, lambda: stopped.has_told("keys_ready"))
            [ready] = [told for told in stopped.events() if told["event"] == "keys_ready"]
            loaded = await valkey_store.run(KeySets(Sealer()).load("RS256"))
    assert not stopped.has_told("keys_changed")
    assert loaded.key_set is not None
    assert ready["kid"] == loaded.key_set.current.key.kid


def _readiness(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_without_redis_it_stays_up_says_why_and_stops_when_asked(tmp_path: Path) -> None:
    port = free_port()
    rotator = RotatorProcess("redis://127.0.0.1:1", tmp_path / "log", internal_port=port)
    with _ending(rotator):
        wait_until(lambda: "can't be reached" in _readiness(port)[1])
        assert _readiness(port)[0] == 503
        assert rotator.process.poll() is None
        rotator.process.terminate()
        assert rotator.process.wait(SIGTERM_BOUND) == 0


def test_redis_without_tls_is_told_at_readyz_and_in_the_log_with_the_scheme_that_it_needs(tmp_path: Path) -> None:
    port, told = free_port(), "redis_url has to begin with redis://"
    with RedisServer("redis7", port=free_port()) as server:
        rotator = RotatorProcess(
            f"rediss://127.0.0.1:{server.port}", tmp_path / "log", internal_port=port, redis_timeout=1
        )
        with _ending(rotator):
            wait_until(lambda: told in _readiness(port)[1])
            wait_until(lambda: any(told in str(event.get("reason")) for event in rotator.events()))


@pytest.mark.setting("keytext")
def test_with_manual_keys_it_stands_idle_and_is_ready(tmp_path: Path) -> None:
    port = free_port()
    rotator = RotatorProcess(
        "redis://127.0.0.1:1", tmp_path / "log", internal_port=port, keytext=generate("EdDSA").private_pem
    )
    with _ending(rotator):
        wait_until(lambda: _readiness(port)[0] == 200)
        assert [told["event"] for told in rotator.events()].count("keys_are_manual") == 1
        rotator.process.terminate()
        assert rotator.process.wait(SIGTERM_BOUND) == 0


def test_ready_once_keys_are_there_and_metrics_tell_their_age(valkey_url: str, tmp_path: Path) -> None:
    port = free_port()
    rotator = RotatorProcess(valkey_url, tmp_path / "log", internal_port=port)
    with _ending(rotator):
        wait_until(lambda: _readiness(port)[0] == 200)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    assert 'key_rotator_current_key_age_seconds{alg="RS256"}' in text
    assert "PRIVATE" not in rotator.log.read_text()

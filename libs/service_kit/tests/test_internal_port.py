"""The internal port as a probe meets it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time

import pytest
from prometheus_client import CollectorRegistry, Counter

from service_kit import healthcheck
from service_kit.errors import InternalPortError
from service_kit.internal_port import Check, InternalPort
from service_kit.settings import CommonSettings
from service_kit.stopping import Stop


def port_with(*checks: Check, stop: Stop | None = None, loop_bound: float = 2.0) -> InternalPort:
    registry = CollectorRegistry()
    Counter("logins", "Logins", registry=registry).inc(3)
    return InternalPort("127.0.0.1", 0, registry=registry, checks=checks, stop=stop, loop_bound=loop_bound)


def ask(port: int | None, path: str, method: str = "GET") -> tuple[int, str]:
    assert port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def get(port: InternalPort, path: str, method: str = "GET") -> tuple[int, str]:
    return await asyncio.to_thread(ask, port.port, path, method)


async def fine() -> None:
    pass


async def broken() -> None:
    raise ConnectionError("no route to redis://u:hunter2@h/0")


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_what_doctor_found_stands_beside_the_checks_and_decides_nothing() -> None:
    found = {"examined_at": 1, "error": ["eviction_policy"]}
    port = InternalPort("127.0.0.1", 0, registry=CollectorRegistry(), doctor=lambda: found)
    async with port:
        status, body = await get(port, "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "checks": [], "doctor": found})


async def test_service_that_works_is_alive_ready_and_measured() -> None:
    async with port_with(Check("redis", fine)) as port:
        assert await get(port, "/healthz") == (200, '{"alive": true}\n')
        assert json.loads((await get(port, "/readyz"))[1]) == {
            "ready": True,
            "checks": [{"name": "redis", "ready": True}],
        }
        status, text = await get(port, "/metrics")
        assert (status, "logins_total 3.0" in text) == (200, True)
        assert (await get(port, "/healthz?x=1"))[0] == 200
        assert await get(port, "/healthz", "HEAD") == (200, "")


async def test_anything_else_is_refused() -> None:
    async with port_with() as port:
        assert (await get(port, "/"))[0] == 404
        assert (await get(port, "/healthz", "POST"))[0] == 501
        assert (await get(port, "/healthz", "DELETE"))[0] == 501


async def test_reasons_are_told_without_secrets_and_within_bounds() -> None:
    async with port_with(Check("redis", broken), Check("keys", for_ever, bound=0.05), Check("x", fine)) as port:
        status, body = await get(port, "/readyz")
    reasons = {check["name"]: check.get("reason") for check in json.loads(body)["checks"]}
    assert status == 503
    assert reasons == {"redis": "no route to redis://***@h/0", "keys": "no answer within 0.05 s", "x": None}


async def test_stopping_service_is_not_ready_but_alive() -> None:
    stop = Stop()
    async with port_with(stop=stop) as port:
        stop.request("SIGTERM")
        assert (await get(port, "/readyz"))[0] == 503
        assert (await get(port, "/healthz"))[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_blocked_event_loop_is_told(path: str) -> None:
    answers: list[tuple[int, str]] = []
    async with port_with(loop_bound=0.1) as port:
        asking = threading.Thread(target=lambda: answers.append(ask(port.port, path)))
        asking.start()
        deadline = time.monotonic() + 20
        while not answers and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - this is the blocked loop
        asking.join()
        assert answers[0][0] == 503
        assert "has not answered for 0.1 s" in answers[0][1]
        assert (await get(port, path))[0] == 200


async def test_request_without_end_or_of_any_size_is_cut_off() -> None:
    def flood(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            try:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1_000_000)
                return connection.recv(100)
            except ConnectionError:
                return b""

    async with port_with() as port:
        assert port.port
        assert await asyncio.to_thread(flood, port.port) == b""
        assert (await get(port, "/healthz"))[0] == 200


async def test_more_connections_than_allowed_are_closed_at_once() -> None:
    async with port_with() as port:
        assert port.port
        idle = [socket.create_connection(("127.0.0.1", port.port), timeout=20) for _ in range(17)]
        try:
            assert await asyncio.to_thread(idle[-1].recv, 1) == b""
        finally:
            for connection in idle:
                connection.close()


async def test_taken_port_is_told_with_what_to_do() -> None:
    async with port_with() as port:
        with pytest.raises(InternalPortError, match="set internal_port to a free port"):
            async with InternalPort("127.0.0.1", port.port, registry=CollectorRegistry()):
                pass


async def test_port_zero_in_the_settings_means_none() -> None:
    settings = CommonSettings.model_validate({"redis_url": "redis://h", "internal_port": 0})
    async with InternalPort.of(settings, registry=CollectorRegistry()) as port:
        assert port.port is None


async def test_ipv6_works_as_well() -> None:
    async with InternalPort("::1", 0, registry=CollectorRegistry()) as port:
        assert await asyncio.to_thread(healthcheck.main, ["--host", "::1", "--port", str(port.port)]) == 0


async def test_health_check_command_tells_by_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    async with port_with(Check("redis", broken)) as port:
        number = str(port.port)
        assert await asyncio.to_thread(healthcheck.main, ["--port", number]) == 1
        assert "no route" in capsys.readouterr().out
        assert await asyncio.to_thread(healthcheck.main, ["--port", number, "--path", "/healthz"]) == 0
    assert await asyncio.to_thread(healthcheck.main, ["--port", number]) == 1
    assert "no answer" in capsys.readouterr().err

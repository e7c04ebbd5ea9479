"""Which transport gets a mail, when it is passed over, and how it gets its mails back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from mailer import circuit
from mailer.circuit import FAILURES, Circuit, State
from mailer.delivery import PATIENCE, Delivery
from mailer.errors import TransportError
from mailer.mails import Mail, Sender
from mailer.metrics import Metrics
from mailer.recipients import parse_recipient
from mailer.routes import Pace, Route
from mailer.verdicts import Fault, Kind, Verdict

from .processes import until

D, A, G = Kind.DELIVERED, Kind.TRY_AGAIN, Kind.GIVE_UP
NONE, RECIPIENT, MAIL, TRANSPORT, UNKNOWN = Fault.NONE, Fault.RECIPIENT, Fault.MAIL, Fault.TRANSPORT, Fault.UNKNOWN
SENT = Mail("id", Sender.of("N", parse_recipient("a@b.example")), parse_recipient("c@d.example"), "s", "t", "h", ())


class Played:
    """A transport that does as told."""

    def __init__(self, name: str, kind: Kind = D, fault: Fault = NONE, *, retry_after: float = 0.0) -> None:
        self.name = name
        self.verdict = Verdict(kind, fault, "r", retry_after=retry_after)
        self.asked = self.checked = self.at_once = self.most_at_once = 0
        self.takes = self.wants_pause = 0.0
        self.reachable = True
        self.silence: float | None = None

    async def send(
        self,
        mail: Mail,  # noqa: ARG002
        *,
        bound: float,
        silence: float | None = None,
        reply: float | None = None,  # noqa: ARG002
    ) -> Verdict:
        self.silence = silence
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            async with asyncio.timeout(bound):
                await asyncio.sleep(self.takes)
        except TimeoutError:
            return Verdict(A, TRANSPORT, "timed out")
        finally:
            self.at_once -= 1
        return self.verdict

    async def check(self) -> str:
        self.checked += 1
        if not self.reachable:
            raise TransportError("away", pause=self.wants_pause)
        return ""

    async def aclose(self) -> None: ...


def route(
    transport: Played, *, concurrency: int = 20, per_second: float = 0.0, metrics: Metrics | None = None
) -> Route:
    metrics = metrics or Metrics(CollectorRegistry())
    return Route(transport, concurrency=concurrency, per_second=per_second, metrics=metrics)


@contextlib.asynccontextmanager
async def running(*transports: Played) -> AsyncIterator[Delivery]:
    delivery = Delivery([route(transport) for transport in transports])
    task = asyncio.create_task(delivery.run())
    try:
        yield delivery
    finally:
        task.cancel()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "PAUSE", 0.05)
    monkeypatch.setattr(circuit, "LONGEST_PAUSE", 0.2)


async def send(delivery: Delivery, *, bound: float = 5, within: float = 60) -> Verdict:
    return await delivery.attempt(SENT, bound=bound, within=within)


@pytest.mark.parametrize(
    ("first", "second", "kind", "transport"),
    [
        ((D, NONE), (D, NONE), D, "one"),
        ((A, TRANSPORT), (D, NONE), D, "two"),
        ((G, MAIL), (D, NONE), D, "two"),
        ((A, MAIL), (D, NONE), D, "two"),
        ((G, RECIPIENT), (D, NONE), G, "one"),
        ((A, RECIPIENT), (D, NONE), A, "one"),
        ((A, UNKNOWN), (D, NONE), A, "one"),
        ((A, TRANSPORT), (A, TRANSPORT), A, "one"),
        ((A, TRANSPORT), (G, MAIL), A, "one"),
        ((G, MAIL), (A, TRANSPORT), A, "two"),
        ((G, MAIL), (G, MAIL), G, "one"),
        ((A, TRANSPORT), (G, RECIPIENT), G, "two"),
    ],
)
async def test_next_transport_is_tried_when_the_fault_is_not_the_recipients(
    first: tuple[Kind, Fault], second: tuple[Kind, Fault], kind: Kind, transport: str
) -> None:
    one, two = Played("one", *first), Played("two", *second)
    verdict = await send(Delivery([route(one), route(two)]))
    assert (verdict.kind, verdict.transport) == (kind, transport)
    assert (one.asked, two.asked) == (1, int(first[1] in (TRANSPORT, MAIL)))


async def test_transport_that_wants_us_to_wait_an_hour_does_not_make_a_mail_wait_for_it() -> None:
    one, two = Played("one", A, TRANSPORT, retry_after=3600), Played("two", A, TRANSPORT)
    verdict = await send(Delivery([route(one), route(two)]))
    assert (verdict.transport, verdict.retry_after) == ("two", 0)


async def test_no_try_is_begun_when_no_time_is_left() -> None:
    one = Played("one")
    verdict = await send(Delivery([route(one)]), within=0)
    assert (verdict.kind, one.asked) == (A, 0)


async def test_transport_that_hangs_leaves_the_next_its_part_of_the_time() -> None:
    one, two = Played("one"), Played("two")
    one.takes = 3600
    verdict = await send(Delivery([route(one), route(two)]), bound=30, within=0.4)
    assert (verdict.kind, verdict.transport) == (D, "two")


async def test_transport_that_fails_again_and_again_is_passed_over_without_being_asked() -> None:
    one, two = Played("one", A, TRANSPORT), Played("two")
    delivery = Delivery([route(one), route(two)])
    assert [(await send(delivery)).transport for _ in range(FAILURES + 20)] == ["two"] * (FAILURES + 20)
    assert one.asked == FAILURES


async def test_fault_that_every_mail_would_meet_gives_the_transport_a_rest_at_once() -> None:
    one, two = Played("one"), Played("two")
    one.verdict = Verdict(A, TRANSPORT, "r", for_all=True)
    delivery = Delivery([route(one), route(two)])
    assert [(await send(delivery)).transport for _ in range(10)] == ["two"] * 10
    assert one.asked == 1


@pytest.mark.parametrize(("others", "silence"), [("usable", PATIENCE), ("at rest", None), ("none", None)])
async def test_silence_is_cut_short_only_where_there_is_another_way(others: str, silence: float | None) -> None:
    one, two = Played("one"), Played("two")
    delivery = Delivery([route(one), *([] if others == "none" else [route(two)])])
    if others == "at rest":
        circuit_of_two = delivery._routes[1].circuit
        circuit_of_two.end(Verdict(A, TRANSPORT, "r", for_all=True), circuit_of_two.begin())
    await send(delivery)
    assert one.silence == silence


@pytest.mark.usefixtures("short_pauses")
async def test_transport_that_does_not_want_to_be_asked_soon_is_not_checked_before() -> None:
    one = Played("one", A, TRANSPORT)
    one.reachable, one.wants_pause = False, 3600.0
    async with running(one) as delivery:
        for _ in range(FAILURES):
            await send(delivery)
        await until(lambda: one.checked == 1)
        verdict = await send(delivery)
        assert (verdict.kind, verdict.fault) == (A, TRANSPORT)
        assert verdict.retry_after > circuit.LONGEST_PAUSE * 10
    assert one.checked == 1


@pytest.mark.parametrize("verdict", [(G, RECIPIENT), (A, RECIPIENT), (G, MAIL), (D, NONE)])
async def test_faults_of_recipients_never_close_a_transport_off(verdict: tuple[Kind, Fault]) -> None:
    one = Played("one", *verdict)
    delivery = Delivery([route(one)])
    for _ in range(FAILURES * 3):
        await send(delivery)
    assert one.asked == FAILURES * 3


async def test_one_delivery_among_failures_keeps_the_circuit_closed() -> None:
    one = Played("one")
    delivery = Delivery([route(one)])
    for number in range(40):
        one.verdict = Verdict(A, TRANSPORT, "r") if number % FAILURES else Verdict(D, NONE, "r")
        await send(delivery)
    assert one.asked == 40


@pytest.mark.usefixtures("short_pauses")
async def test_traffic_returns_when_the_transport_does_and_no_mail_is_spent_on_finding_out() -> None:
    one, two = Played("one", A, TRANSPORT), Played("two")
    async with running(one, two) as delivery:
        one.reachable = False
        for _ in range(FAILURES):
            await send(delivery)
        await until(lambda: one.checked > 3)
        assert (await send(delivery)).transport == "two"
        assert one.asked == FAILURES
        one.reachable, one.verdict = True, Verdict(D, NONE, "r")

        async def is_back() -> bool:
            return (await send(delivery)).transport == "one"

        await until(is_back)
        assert [(await send(delivery)).transport for _ in range(5)] == ["one"] * 5


@pytest.mark.usefixtures("short_pauses")
async def test_transport_that_connects_but_still_fails_costs_one_mail_a_trial() -> None:
    one, two = Played("one", A, TRANSPORT), Played("two")
    async with running(one, two) as delivery:
        for _ in range(FAILURES):
            await send(delivery)
        await until(lambda: one.checked == 1)
        one.takes = 0.05
        verdicts = await asyncio.gather(*(send(delivery) for _ in range(50)))
        assert {verdict.transport for verdict in verdicts} == {"two"}
        assert one.asked == FAILURES + 1


@pytest.mark.usefixtures("short_pauses")
async def test_mails_in_hand_go_at_once_when_the_only_transport_is_back() -> None:
    one = Played("one", A, TRANSPORT)
    async with running(one) as delivery:
        for _ in range(FAILURES):
            await send(delivery)
        one.reachable = False
        waiting = [asyncio.create_task(send(delivery, bound=30)) for _ in range(10)]
        await until(lambda: one.checked > 1)
        assert not any(task.done() for task in waiting)
        one.reachable, one.verdict = True, Verdict(D, NONE, "r")
        assert {verdict.kind for verdict in await asyncio.gather(*waiting)} == {D}


async def test_mail_that_no_transport_may_be_used_for_is_put_off_until_the_next_trial() -> None:
    one = Played("one", A, TRANSPORT, retry_after=100)
    delivery = Delivery([route(one)])
    await send(delivery)
    verdict = await send(delivery)
    assert (verdict.kind, verdict.fault, verdict.reason) == (A, TRANSPORT, "resting after r")
    assert 0 < verdict.retry_after <= 100
    assert one.asked == 1


def test_pause_grows_with_each_failed_trial_and_is_bounded() -> None:
    states: list[State] = []
    tried = Circuit("x", states.append)
    for _ in range(FAILURES):
        tried.end(Verdict(A, TRANSPORT, "r"), tried.begin())
    pauses = []
    for _ in range(8):
        pauses.append(tried.pause_left)
        tried.stay_open()
    assert states[0] is State.OPEN
    assert 0.7 < pauses[0] <= 1
    assert 1.4 < pauses[1] <= 2
    assert circuit.LONGEST_PAUSE * 0.74 < pauses[-1] <= circuit.LONGEST_PAUSE
    tried.try_again()
    tried.end(Verdict(D, NONE, "r"), tried.begin())
    assert tried.state is State.CLOSED


def test_log_says_again_and_again_that_a_transport_is_still_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tried = Circuit("x", lambda _state: None)
    with capture_logs() as logged:
        tried.end(Verdict(A, TRANSPORT, "auth 535", for_all=True), tried.begin())
        for _ in range(24):
            now += 5
            tried.stay_open()
    assert [event["event"] for event in logged] == ["transport_given_a_rest", *["transport_still_at_rest"] * 2]
    assert (logged[2]["reason"], logged[2]["seconds"]) == ("auth 535", 120)


def test_old_failures_that_are_told_late_do_not_close_off_a_transport_that_is_back() -> None:
    tried = Circuit("x", lambda _state: None)
    old = [tried.begin() for _ in range(FAILURES * 2)]
    tried.end(Verdict(A, TRANSPORT, "r", for_all=True), old.pop())
    tried.try_again()
    trial = tried.begin()
    tried.end(Verdict(A, UNKNOWN, "late"), old.pop())
    assert not tried.lets_through, "the trial is still under way"
    tried.end(Verdict(D, NONE, "r"), trial)
    for begun in old:
        tried.end(Verdict(A, UNKNOWN, "late"), begun)
    assert tried.lets_through
    for _ in range(FAILURES):
        tried.end(Verdict(A, UNKNOWN, "new"), tried.begin())
    assert not tried.lets_through


async def test_no_more_mails_than_allowed_are_under_way_at_a_transport() -> None:
    one = Played("one")
    one.takes = 0.01
    delivery = Delivery([route(one, concurrency=3)])
    verdicts = await asyncio.gather(*(send(delivery) for _ in range(30)))
    assert {verdict.kind for verdict in verdicts} == {D}
    assert one.most_at_once == 3


async def test_mail_that_gets_no_turn_goes_by_the_next_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailer.delivery.PATIENCE", 0.05)
    one, two = Played("one"), Played("two")
    one.takes = 3600
    delivery = Delivery([route(one, concurrency=1), route(two)])
    stuck = asyncio.create_task(send(delivery, bound=60))
    await until(lambda: one.at_once == 1)
    assert (await send(delivery)).transport == "two"
    stuck.cancel()


async def test_after_one_mail_that_got_no_turn_others_do_not_wait_for_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Played("one"), Played("two")
    one.takes = 3600
    routes = [route(one, concurrency=1), route(two)]
    delivery = Delivery(routes)
    stuck = asyncio.create_task(send(delivery, bound=60))
    await until(lambda: one.at_once == 1)
    monkeypatch.setattr("mailer.delivery.PATIENCE", 0.05)
    assert (await send(delivery)).transport == "two"
    monkeypatch.setattr("mailer.delivery.PATIENCE", 3600)
    assert [(await send(delivery, bound=3600, within=36000)).transport for _ in range(5)] == ["two"] * 5
    stuck.cancel()
    await asyncio.wait({stuck})
    one.takes = 0
    assert (await send(delivery)).transport == "one"


async def test_rate_spaces_mails_evenly_and_refuses_at_once_what_would_wait_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(10)
    assert [await pace.turn(patience=0.25) for _ in range(5)] == [True, True, True, False, False]
    assert slept == [0, 0.1, 0.2]
    now += 1
    assert await pace.turn(patience=0)


async def test_tries_circuits_and_durations_are_told() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    one, two = Played("one", A, TRANSPORT), Played("two")
    delivery = Delivery([route(one, metrics=metrics), route(two, metrics=metrics)])
    for _ in range(FAILURES + 1):
        await send(delivery)
    labels = {"transport": "one", "outcome": "try_again", "fault": "transport"}
    assert registry.get_sample_value("mailer_transport_tries_total", labels) == FAILURES
    assert registry.get_sample_value("mailer_transport_seconds_count", {"transport": "two"}) == FAILURES + 1
    assert registry.get_sample_value("mailer_circuit", {"transport": "one"}) == 2
    assert registry.get_sample_value("mailer_circuit", {"transport": "two"}) == 0

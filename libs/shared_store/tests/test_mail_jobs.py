"""Mail jobs as JSON: what is written is read, and anything else is told."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_store.errors import CorruptRecord
from shared_store.mail_jobs import HISTORY, MailJob, NewerJob, new_job_id

JOB = MailJob(
    id="job_1-x",
    to="é@example.org",
    locale="fr-CA",
    site="https://site.example",
    link="https://broker.example/confirm?x=1",
    code="abc123",
    deadline=1_800_000_000.5,
    expires_in=900,
    history=("421 try again",),
)
STORED = json.loads(JOB.to_json())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=10,
)


def read(value: object) -> MailJob:
    return MailJob.from_json(json.dumps(value).encode())


def test_job_is_read_as_it_was_written() -> None:
    assert MailJob.from_json(JOB.to_json().encode()) == JOB


def test_stored_job_of_version_1_goes_on_being_read() -> None:
    text = (
        b'{"v":1,"event":"login.requested","id":"j","to":"a@b.example","locale":"en","site":"https://s.example",'
        b'"link":"https://b.example/l","code":"abc123","deadline":1.5,"expires_in":900,"reply_to":"","trace":"",'
        b'"login":"","requested_at":0,"attempts":0,"history":[]}'
    )
    assert MailJob.from_json(text).to == "a@b.example"


@given(st.binary(max_size=200))
def test_junk_is_told_as_corrupt(junk: bytes) -> None:
    with pytest.raises(CorruptRecord):
        MailJob.from_json(junk)


@given(JSON)
def test_other_json_is_told_as_corrupt(value: Any) -> None:
    with pytest.raises((CorruptRecord, NewerJob)):
        read(value)


@given(st.sampled_from(sorted(STORED)), JSON)
def test_any_value_in_any_field_is_read_or_told(name: str, value: Any) -> None:
    try:
        job = read({**STORED, name: value})
    except (CorruptRecord, NewerJob):
        return
    assert MailJob.from_json(job.to_json().encode()) == job
    assert job.after_attempt("x").attempts == job.attempts + 1


@pytest.mark.parametrize("name", sorted(STORED))
def test_job_without_a_field_is_read_or_told(name: str) -> None:
    try:
        read({key: value for key, value in STORED.items() if key != name})
    except CorruptRecord:
        return
    assert name in {field.name for field in dataclasses.fields(MailJob) if field.default is not dataclasses.MISSING}


@pytest.mark.parametrize("extra", ["unknown", "__class__", "self", "cls"])
def test_unknown_field_of_this_version_is_passed_over(extra: str) -> None:
    assert read({**STORED, extra: {"any": ["thing"]}}) == JOB


def test_field_that_came_later_has_a_default_where_an_older_auth_api_did_not_write_it() -> None:
    needed = {field.name for field in dataclasses.fields(MailJob) if field.default is dataclasses.MISSING}
    assert read({key: STORED[key] for key in (*needed, "v", "event")}).to == JOB.to


@pytest.mark.parametrize("history", ["abc", {"a": 1}, None, 7])
def test_history_that_is_no_list_is_told_as_corrupt(history: object) -> None:
    with pytest.raises(CorruptRecord):
        read({**STORED, "history": history})


def test_newer_version_is_left_for_a_newer_mailer() -> None:
    with pytest.raises(NewerJob):
        read({**STORED, "v": 2, "new": True})


@pytest.mark.parametrize("version", [0, -1, None, "1", 1.5, True, [], {}])
def test_version_that_is_none_is_told_as_corrupt(version: object) -> None:
    with pytest.raises(CorruptRecord):
        read({**STORED, "v": version})


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"v":' * 50_000, b"9" * 10_000, b'{"v":' + b"9" * 5000 + b"}"])
def test_deep_and_long_junk_is_told(text: bytes) -> None:
    with pytest.raises((CorruptRecord, NewerJob)):
        MailJob.from_json(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_that_is_none_is_told(number: str) -> None:
    with pytest.raises(CorruptRecord):
        MailJob.from_json(JOB.to_json().replace("1800000000.5", number).encode())


@pytest.mark.parametrize("name", ["to", "locale", "history"])
def test_half_a_surrogate_pair_is_told_as_corrupt(name: str) -> None:
    with pytest.raises(CorruptRecord):
        read({**STORED, name: ["\ud800"] if name == "history" else "\ud800"})


def test_history_is_bounded() -> None:
    job = JOB
    for number in range(HISTORY + 5):
        job = job.after_attempt(str(number))
    assert (job.attempts, len(job.history), job.history[-1]) == (HISTORY + 5, HISTORY, str(HISTORY + 4))


def test_new_ids_are_ids() -> None:
    assert read({**STORED, "id": new_job_id()})

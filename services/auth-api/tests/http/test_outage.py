"""What a person is told while Redis can't keep their login, and what is not lost of it."""

import time
from collections.abc import Callable

import pytest

from .conftest import MakeBroker


@pytest.mark.setting("redis_wait_replicas", "redis_wait_timeout")
async def test_login_whose_job_no_replica_has_is_told_503_after_the_wait(make_broker: MakeBroker) -> None:
    async with make_broker(redis_wait_replicas="1", redis_wait_timeout="2") as broker:
        began = time.monotonic()
        answer = await broker.authorize()
        assert time.monotonic() - began >= 2
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"


async def test_form_that_could_not_be_taken_is_kept_on_the_page_for_the_person_to_send_again(
    make_broker: MakeBroker, form_fields: Callable[[str], dict[str, str]]
) -> None:
    async with make_broker(redis_wait_replicas="1", redis_wait_timeout="1") as broker:
        posted = {"client_id": "https://site.example", "state": '"<s>', "login_hint": "person@example.com"}
        answer = await broker.browser.post("/auth", data={**broker_request(), **posted})
        assert answer.status_code == 503
        assert form_fields(answer.text) == {**broker_request(), **posted}
        # The mail may have gone out all the same: it is not the page that asks for another, but the person.
        assert "retry.js" not in answer.text


def broker_request() -> dict[str, str]:
    return {
        "redirect_uri": "https://site.example/callback",
        "response_type": "id_token",
        "response_mode": "form_post",
        "scope": "openid email",
        "nonce": "n-1",
    }

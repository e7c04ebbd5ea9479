"""Whole logins through the proxy, undisturbed and with containers dying under them."""

import httpx
import pytest

from .browser import Login
from .engine import SERVICES, Project, docker, eventually, inspect

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


def test_login_through_the_proxy_gives_a_token_that_verifies(whole: Project) -> None:
    login = Login(whole)
    login.begin()
    login.verify(login.confirm())


def test_code_with_pkce_is_redeemed_by_another_instance_than_made_it(whole: Project) -> None:
    login = Login(whole, code_flow=True)
    login.begin()
    code, instance = whole.with_instance("POST /confirm", login.confirm)
    whole.kill(instance)
    login.verify(login.redeem(code))


def test_login_goes_on_when_the_instance_of_each_step_is_killed_after_it(whole: Project) -> None:
    login = Login(whole, code_flow=True)
    _, instance = whole.with_instance("GET /auth", login.begin)
    whole.kill(instance)
    code, instance = whole.with_instance("POST /confirm", login.confirm)
    whole.kill(instance)
    assert len(whole.instances("auth-api")) == 1
    login.verify(login.redeem(code))


def test_mails_that_a_killed_mailer_had_in_hand_arrive(whole: Project) -> None:
    [catcher] = whole.instances("mailcatcher")
    logins = [Login(whole) for _ in range(4)]
    docker("pause", catcher)
    try:
        for login in logins:
            login.begin()
        whole.kill(whole.instances("mailer")[0])
    finally:
        docker("unpause", catcher)
        eventually(lambda: health(catcher) == "healthy", "the mail catcher is back")
    for login in logins:
        login.verify(login.confirm())


def test_login_goes_on_when_a_key_rotator_is_killed(whole: Project) -> None:
    login = Login(whole)
    login.begin()
    whole.kill(whole.instances("key-rotator")[0])
    login.verify(login.confirm())
    eventually(lambda: health(whole.instances("key-rotator")[0]) == "healthy", "the other key-rotator is ready")


def test_services_outlive_redis_and_keep_what_was_in_flight(whole: Project) -> None:
    login = Login(whole)
    login.begin()
    mail = whole.mail(login.address)
    containers = [one for service in SERVICES for one in whole.instances(service)]
    whole.compose("stop", "redis")
    eventually(lambda: all(health(one) == "unhealthy" for one in containers), "none says it is ready", bound=120)
    assert httpx.get(f"{whole.broker}/keys.json").status_code == 200
    whole.compose("start", "redis")
    eventually(lambda: all(health(one) == "healthy" for one in containers), "all are ready again", bound=120)
    assert [inspect(one)["RestartCount"] for one in containers] == [0] * len(containers)
    login.verify(login.confirm(mail))


def test_requests_are_spread_over_all_instances(whole: Project) -> None:
    for _ in range(60):
        assert httpx.get(f"{whole.broker}/ver.txt").status_code == 200
    addresses = {f"{whole.address(one)}:3333" for one in whole.instances("auth-api")}
    assert len(addresses) == 3
    eventually(lambda: addresses <= set(whole.upstreams("GET /ver.txt")), "each instance answered some")


def test_log_of_a_login_holds_neither_code_nor_address(whole: Project) -> None:
    login = Login(whole)
    login.begin()
    mail = whole.mail(login.address)
    login.verify(login.confirm(mail))
    logs = whole.compose("logs", "--no-log-prefix")
    assert "/confirm" in logs
    assert mail.code not in logs
    assert login.address not in logs


def test_stopped_services_end_within_the_grace_period_by_themselves(whole: Project) -> None:
    containers = [whole.instances(service)[0] for service in SERVICES]
    docker("stop", "--time", "25", *containers, bound=120)
    assert [inspect(one)["State"]["ExitCode"] for one in containers] == [0, 0, 0]


def test_redis_keeps_its_files_to_itself(whole: Project) -> None:
    whole.redis("save")
    modes = whole.compose("exec", "-T", "redis", "stat", "-c", "%a %U %n", "/data", "/data/dump.rdb").splitlines()
    assert modes == ["700 redis /data", "600 redis /data/dump.rdb"]


def test_redis_takes_nobody_without_the_password(whole: Project) -> None:
    answer = whole.compose("exec", "-T", "redis", "redis-cli", "keys", "*")
    assert "NOAUTH" in answer


def test_redis_refuses_the_services_nothing(whole: Project) -> None:
    login = Login(whole)
    login.begin()
    login.verify(login.confirm(whole.mail(login.address)))
    refused = [line for line in whole.redis("acl", "log").splitlines() if line in SERVICES]
    assert refused == []


def health(container: str) -> str:
    status: str = inspect(container)["State"]["Health"]["Status"]
    return status

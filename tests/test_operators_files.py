"""What operators are given to begin with names metrics and keys that there are: alerts, autoscaling, the pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Metric

from auth_api.metrics import Metrics as ApiMetrics
from key_rotator.metrics import Metrics as RotatorMetrics
from mailer.metrics import REASONS
from mailer.metrics import Metrics as MailerMetrics
from shared_store.keyspace import MAIL_READY

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yaml"
PAGES = ["docs/mail.md", "docs/mail-queue.md", "docs/mail-bounces.md", "docs/scaling.md", "docs/keys.md"]
NAMES = re.compile(r"\b(?:mailer|portier|key_rotator)_[a-z_]+")
SUFFIXES = {"counter": ("", "_total"), "histogram": ("", "_bucket", "_count", "_sum")}


def families() -> list[Metric]:
    """The metrics of all three services."""
    mailers, rotators, apis = (CollectorRegistry() for _ in range(3))
    MailerMetrics(mailers)
    RotatorMetrics(rotators)
    ApiMetrics(apis, uncounted=())
    return [family for registry in (mailers, rotators, apis) for family in registry.collect()]


def exported() -> set[str]:
    """Every name that Prometheus may be asked for."""
    return {f"{family.name}{suffix}" for family in families() for suffix in SUFFIXES.get(family.type, ("",))}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_asks_for_metrics_that_there_are_and_says_what_to_do() -> None:
    for rule in rules():
        asked = set(NAMES.findall(rule["expr"]))
        assert asked, rule
        assert asked <= exported(), rule
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "action"} == set(rule["annotations"])
        assert set(re.findall(r'reason!?="(\w+)"', rule["expr"])) <= set(REASONS)


def test_what_is_bad_for_people_has_an_alert() -> None:
    asked = " ".join(rule["expr"] for rule in rules())
    for name in ("mailer_queue_oldest_seconds", "mailer_given_up_total", "mailer_circuit", "key_rotator_next_rotation"):
        assert name in asked


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_that_a_page_names_is_there(page: str) -> None:
    assert set(NAMES.findall((ROOT / page).read_text())) <= exported()


def test_every_metric_has_a_text_that_says_more_than_its_name() -> None:
    for family in families():
        assert len(family.documentation.split()) >= 3, family.name


def test_autoscaling_looks_at_the_queue_and_at_a_metric_that_there_are() -> None:
    [one, *_] = yaml.safe_load_all((ROOT / "docker/kubernetes/keda.yaml").read_text())
    assert [trigger["metadata"]["listName"] for trigger in one["spec"]["triggers"]] == [MAIL_READY.key(tag="mail")]
    several = yaml.safe_load((ROOT / "docker/kubernetes/keda-shards.yaml").read_text())
    [trigger] = several["spec"]["triggers"]
    assert set(NAMES.findall(trigger["metadata"]["query"])) == {"mailer_queue_ready"}
    for scaled in (one, several):  # KEDA takes text only
        assert all(
            isinstance(value, str) for trigger in scaled["spec"]["triggers"] for value in trigger["metadata"].values()
        )

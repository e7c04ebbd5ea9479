"""The Kubernetes manifests, as far as they can be judged without a cluster."""

from typing import Any

import pytest
import yaml

from .engine import ROOT, SERVICES

pytestmark = pytest.mark.containers

FOLDER = ROOT / "docker" / "kubernetes"


def manifests() -> list[dict[str, Any]]:
    return [one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text()) if one]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def test_every_manifest_says_what_it_is_and_the_kustomization_names_every_file() -> None:
    assert all({"apiVersion", "kind"} <= set(one) for one in manifests())
    [kustomization] = [one for one in manifests() if one["kind"] == "Kustomization"]
    optional = {"kustomization.yaml", "keda.yaml", "keda-shards.yaml"}
    assert set(kustomization["resources"]) == {file.name for file in FOLDER.glob("*.yaml")} - optional


def test_each_service_has_a_hardened_deployment_with_probes_and_a_disruption_budget() -> None:
    deployments, budgets = named("Deployment"), named("PodDisruptionBudget")
    assert set(deployments) == set(budgets) == set(SERVICES)
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]
        [container] = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["resources"]["limits"]["memory"]
        labels = deployment["spec"]["selector"]["matchLabels"]
        assert labels.items() <= pod["metadata"]["labels"].items()
        assert budgets[name]["spec"]["selector"]["matchLabels"] == labels


def test_autoscalers_scale_deployments_that_exist() -> None:
    targets = [one["spec"]["scaleTargetRef"]["name"] for one in manifests() if "scaleTargetRef" in one.get("spec", {})]
    assert sorted(set(targets)) == ["auth-api", "mailer"]

"""The manifests for Kubernetes: valid, and agreeing with the image and the settings.

They are rendered and checked against the schemas; no cluster has run them here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes.monitoring.build import ALERTS, build
from pipeline.cli.loading import read_rules
from pipeline.config import Settings
from pipeline.kql import FieldTable
from pipeline.rules import run_tests
from pipeline.stream import worker

DIRECTORY = Path(__file__).parents[2] / "deploy" / "kubernetes"
RULES = DIRECTORY / "example" / "rules"
MANIFESTS = [
    path
    for path in sorted((DIRECTORY / "base").glob("*.yaml"))
    if path.name != "kustomization.yaml"
]


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def assignments(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = read(DIRECTORY / "base/statefulset.yaml")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    found: dict[str, Any] = only
    return found


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.load(environ=assignments(DIRECTORY / "base/settings.env"))


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (DIRECTORY.parents[1] / "Dockerfile").read_text()


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.29", "1.32"])
def test_a_manifest_has_only_what_its_schema_knows(path: Path, version: str):
    kubernetes_validate.validate(read(path), version, strict=True)


@pytest.mark.parametrize("name", ["base", "example"])
def test_a_folder_is_rendered(name: str):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(DIRECTORY / name)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    documents = [each for each in yaml.safe_load_all(done.stdout) if each]
    for document in documents:
        kubernetes_validate.validate(document, "1.32", strict=True)
    assert {each["kind"] for each in documents} >= {"StatefulSet", "ConfigMap", "NetworkPolicy"}


def test_the_rules_for_the_prometheus_operator_are_the_alerts():
    written = DIRECTORY / "monitoring/prometheusrule.yaml"

    assert written.read_text() == build(), (
        "run: uv run python deploy/kubernetes/monitoring/build.py"
    )
    assert read(written)["spec"] == read(ALERTS)


def test_the_prometheus_operator_finds_the_pods_and_names_the_job_as_the_alerts_do():
    monitor = read(DIRECTORY / "monitoring/servicemonitor.yaml")["spec"]
    service = read(DIRECTORY / "base/service.yaml")
    config = read(ALERTS.with_name("prometheus.yml"))
    (endpoint,) = monitor["endpoints"]
    (port,) = service["spec"]["ports"]
    (scraped,) = config["scrape_configs"]

    assert monitor["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert endpoint["port"] == port["name"]
    assert endpoint["interval"] == config["global"]["scrape_interval"]
    # Without another rule the operator takes the name of the service.
    assert service["metadata"]["name"] == scraped["job_name"]
    assert "jobLabel" not in monitor


def test_the_component_for_the_prometheus_operator_is_rendered_with_the_rest(tmp_path: Path):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    shutil.copytree(DIRECTORY, tmp_path, dirs_exist_ok=True)
    site = tmp_path / "example/kustomization.yaml"
    site.write_text(site.read_text() + "components: [../monitoring]\n")
    done = subprocess.run(
        ["kubectl", "kustomize", str(site.parent)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    rendered = {each["kind"]: each for each in yaml.safe_load_all(done.stdout) if each}
    assert rendered["ServiceMonitor"]["metadata"]["namespace"] == "firstseen"
    assert rendered["PrometheusRule"]["spec"] == read(ALERTS)


def test_its_settings_are_accepted(settings: Settings, container: dict[str, Any]):
    names = {row.env for row in Settings.specs()}

    assert {each["name"] for each in container["env"]} <= names
    assert settings.web.host == "0.0.0.0"  # noqa: S104 - the probes come from outside of the pod


def test_the_rules_of_the_example_are_fine():
    loaded = read_rules([RULES], FieldTable.builtin())

    assert [str(issue) for issue in loaded.issues] == []
    assert all(result.passed for each in loaded.ruleset.runnable for result in run_tests(each))
    listed = read(DIRECTORY / "example/kustomization.yaml")["configMapGenerator"][1]["files"]
    assert sorted(listed) == sorted(f"rules/{path.name}" for path in RULES.iterdir())


def test_user_and_state_folder_are_those_of_the_image(
    pod: dict[str, Any], container: dict[str, Any], dockerfile: str
):
    uid, gid = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)[0]
    security = pod["securityContext"]
    state = re.findall(r"FIRSTSEEN_STATE__DIRECTORY=(\S+)", dockerfile)

    assert (security["runAsUser"], security["runAsGroup"]) == (int(uid), int(gid))
    assert security["runAsNonRoot"]
    assert [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "state"] == state


def test_a_worker_may_use_the_memory_that_it_asks_for(container: dict[str, Any]):
    """Above its request, it would be among the first to be evicted from a full node."""
    resources = container["resources"]

    assert resources["requests"]["memory"] == resources["limits"]["memory"] == "1Gi"


def test_probes_ask_pages_that_workers_have(container: dict[str, Any], settings: Settings):
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    probes = {
        name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
    }

    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {ports[probe["port"]] for probe in probes.values()} == {settings.web.port}


def test_a_worker_has_longer_to_stop_than_it_takes(pod: dict[str, Any]):
    assert pod["terminationGracePeriodSeconds"] > worker._END_SECONDS


def test_nothing_may_be_gained_from_inside(pod: dict[str, Any], container: dict[str, Any]):
    security = container["securityContext"]

    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]
    assert not container["image"].endswith(":latest")


def test_the_brokers_that_are_asked_are_those_that_may_be_reached(settings: Settings):
    (_, brokers) = read(DIRECTORY / "base/networkpolicy.yaml")["spec"]["egress"]
    port = int(settings.kafka.bootstrap_servers.rpartition(":")[2])

    assert [each["port"] for each in brokers["ports"]] == [port]


def test_everything_is_selected_by_the_label_that_the_pods_have():
    label = {"app.kubernetes.io/name": "firstseen-worker"}
    stateful = read(DIRECTORY / "base/statefulset.yaml")["spec"]

    assert label.items() <= stateful["template"]["metadata"]["labels"].items()
    assert stateful["selector"]["matchLabels"] == label
    assert read(DIRECTORY / "base/service.yaml")["spec"]["selector"] == label
    for name in ("poddisruptionbudget", "networkpolicy"):
        spec = read(DIRECTORY / f"base/{name}.yaml")["spec"]
        assert (spec.get("selector") or spec["podSelector"])["matchLabels"] == label


def test_no_secret_stands_in_the_settings():
    secrets = {spec.env for spec in Settings.specs() if "secret" in spec.type}

    assert not assignments(DIRECTORY / "base/settings.env").keys() & secrets

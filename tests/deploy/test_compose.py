from __future__ import annotations

import ipaddress
import re
import subprocess
import sys

import pytest

from pipeline.config import Settings
from pipeline.stream import worker

OURS = ("topics", "worker")


def test_it_follows_the_compose_specification(run_tool):
    done = run_tool(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_published_port_is_on_loopback(compose):
    published = [
        port for service in compose["services"].values() for port in service.get("ports", [])
    ]

    assert published
    assert [port for port in published if not _is_loopback(port)] == []


def _is_loopback(port: str) -> bool:
    address = port.rsplit(":", 2)[0]
    return address != port and ipaddress.ip_address(address).is_loopback


@pytest.mark.parametrize("service", OURS)
def test_the_settings_in_it_are_accepted(compose, service):
    environment = compose["services"][service]["environment"]

    Settings.load(environ=environment)


def test_the_address_of_the_broker_is_one_it_advertises(compose):
    kafka = compose["services"]["kafka"]["environment"]
    bootstrap = compose["services"]["worker"]["environment"]["FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS"]

    assert f"//{bootstrap}" in kafka["KAFKA_ADVERTISED_LISTENERS"]


@pytest.mark.parametrize("service", OURS)
def test_its_commands_are_commands(compose, service):
    command = compose["services"][service]["command"]

    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr


def test_every_mounted_path_exists(compose, root):
    mounts = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]

    assert mounts
    assert [path for path in mounts if not (root / path).exists()] == []


def test_every_named_volume_is_declared(compose):
    named = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if ":" in volume and not volume.startswith((".", "/"))
    }

    assert named == set(compose["volumes"])


@pytest.mark.parametrize("key", ["container_name", "hostname", "ports"])
def test_the_worker_holds_nothing_that_only_one_replica_can_have(compose, key):
    assert key not in compose["services"]["worker"]


def test_each_worker_replica_has_a_state_volume_of_its_own(compose):
    """RocksDB lets one process into a folder: a volume with a name would be shared by all."""
    worker = compose["services"]["worker"]

    assert worker["volumes"] == [worker["environment"]["FIRSTSEEN_STATE__DIRECTORY"]]


@pytest.mark.parametrize("service", ["kafka", "topics", "worker", "prometheus", "grafana"])
def test_every_service_is_hardened(compose, service):
    definition = compose["services"][service]

    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in definition


@pytest.mark.parametrize("service", ["topics", "worker", "prometheus", "grafana"])
def test_the_containers_that_can_have_a_read_only_root(compose, service):
    assert compose["services"][service]["read_only"] is True


def test_no_image_is_taken_as_it_happens_to_be_today(compose):
    tags = {service["image"].partition(":")[2] for service in compose["services"].values()}

    assert tags & {"", "latest"} == set()


def test_it_runs_the_kafka_that_the_tests_run(compose, root):
    pom = (root / "tests/kafka/pom.xml").read_text()
    version = re.search(r"<kafka.version>(.+)</kafka.version>", pom)

    assert version
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_a_worker_has_longer_to_stop_than_it_takes(compose):
    seconds = re.fullmatch(r"(\d+)s", compose["services"]["worker"]["stop_grace_period"])

    assert seconds
    assert int(seconds[1]) > worker._END_SECONDS

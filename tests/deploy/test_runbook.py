from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.telemetry.catalogue import CATALOGUE

RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
SECTIONS = "|".join(Settings.model_fields)
COMMANDS = sorted(set(re.findall(r"(?:^|`)firstseen ([a-z-]+(?: [a-z]+)?)", RUNBOOK, re.MULTILINE)))


def test_it_names_only_metrics_that_exist():
    named = set(re.findall(r"\bfirstseen_[a-z_]+", RUNBOOK))

    assert named
    assert named <= {spec.name for spec in CATALOGUE}


def test_it_names_only_settings_that_exist():
    named = set(re.findall(rf"`((?:{SECTIONS})\.[a-z_]+)\b", RUNBOOK))

    assert named
    assert named <= {spec.key for spec in Settings.specs()}


def test_it_names_only_topics_of_ours():
    settings = Settings()
    named = set(re.findall(r"`(firstseen-[a-z-]+)`", RUNBOOK)) - {"firstseen-worker"}

    assert named
    assert named <= set(settings.topic_names().values())


def test_the_commands_of_kafka_say_which_cluster():
    named = re.findall(r"kafka-[a-z-]+\.sh --[^`\n]*", RUNBOOK)

    assert named
    assert not [command for command in named if "--bootstrap-server" not in command]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_commands(command):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr

"""What the tests of backfills share: two rules, one of which learns, and where that one stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer

from pipeline.cli.loading import read_rules
from pipeline.config import Settings
from pipeline.history.checkpoint import backfill_group
from pipeline.kafka.groups import GroupOffsets
from pipeline.kql import FieldTable
from tests.clients import SECONDS, client_config, read_all
from tests.deployment import Deployment
from tests.events import encode, library_event
from tests.programs import executable_of
from tests.rules import rule_text
from tests.small_topics import small_topics

BROAD = "any-load"
OTHER = "winlogon-load"
RULES = {BROAD: "event.category:library", OTHER: "dll.name:winlogon.dll"}
CHANGED = "event.category:library and event.action:load"
HELD = "firstseen_history_held_partitions"
AUTO = {"FIRSTSEEN_STATE__BACKFILL": "auto"}


def program(number: int, executable: str, *, hours: float = 0.0, dll: str = "plain.dll") -> bytes:
    """Return an event that the broad rule matches; of an hour and a host that are always the same."""
    at = datetime.now(UTC) + timedelta(hours=hours)
    return encode(library_event(number=number, executable=executable, at=at, dll=dll))


def past(count: int) -> Iterator[bytes]:
    """Yield events of an hour ago, each of another program: ``0.exe``, ``1.exe``, …"""
    return (program(n, f"{n}.exe", hours=-1) for n in range(count))


def told(stack: Deployment, rule_id: str = BROAD) -> Counter[str]:
    """How often each program was told as new by a rule, within the quota and beyond it."""
    return Counter(name for _, name in _tellings(stack, rule_id))


def alerts_told(stack: Deployment, rule_id: str = BROAD) -> Counter[str]:
    """As `told`, but an alert that stands in a topic again, because of a crash, counts once."""
    return Counter(name for _, name in set(_tellings(stack, rule_id)))


def _tellings(stack: Deployment, rule_id: str) -> Iterator[tuple[bytes, str]]:
    """Yield alert id and program."""
    for message in (*stack.read("alerts"), *stack.read("overflow")):
        alert = json.loads(message.value())
        executable = executable_of(alert)
        if alert["rule"]["id"] == rule_id and executable is not None:
            yield message.key(), executable


def two_rules(directory: Path, partitions: int = 3) -> dict[str, str]:
    """Write a broad rule and a narrow one; return the settings of a small deployment with both."""
    for rule_id, query in RULES.items():
        rule_file(directory / "rules", rule_id, query)
    return {
        **small_topics(directory / "topics", partitions),
        "FIRSTSEEN_RULES__PATHS": str(directory / "rules"),
    }


def rule_file(directory: Path, rule_id: str, query: str) -> Path:
    """Write a rule, or change its query."""
    directory.mkdir(exist_ok=True)
    file = directory / f"{rule_id}.toml"
    file.write_text(rule_text(rule_id, query))
    return file


def only(directory: Path, rule_id: str) -> str:
    """Return the setting of a worker that has only one of the two rules."""
    return str(directory / "rules" / f"{rule_id}.toml")


@contextmanager
def started(stack: Deployment, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command and do not wait for it; it is gone after the block, whatever happened."""
    command = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "history", "backfill", "--rule", BROAD, *arguments],
        env={**os.environ, **stack.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield command
    finally:
        command.kill()
        command.communicate()


def finished(command: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a command that was started with ``--json``; return what it says."""
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    return json.loads(out)


def backfilled(stack: Deployment, *arguments: str, rule_id: str = BROAD) -> dict[str, Any]:
    """Run the command to its end; return what it says."""
    done = stack.command("history", "backfill", "--rule", rule_id, "--json", *arguments)
    return json.loads(done.stdout)


def group_of_broad(stack: Deployment) -> str:
    """Return the group that keeps the checkpoint of the broad rule, as its file is now."""
    rules = read_rules([Path(stack.settings["FIRSTSEEN_RULES__PATHS"])], FieldTable.builtin())
    broad = rules.ruleset.get(BROAD)
    assert broad is not None
    return backfill_group(stack.prefix, broad.history_id)


def checkpoint(stack: Deployment) -> dict[int, tuple[int, dict[str, Any]]]:
    """What the backfill of the broad rule has committed: by partition the offset, and its metadata."""
    asked = {**client_config(stack.broker.bootstrap), "group.id": group_of_broad(stack)}
    with closing(Consumer(asked)) as client:
        partitions = client.list_topics(stack.input, timeout=SECONDS).topics[stack.input].partitions
        offsets = GroupOffsets(Settings(), client, group_of_broad(stack))
        found = offsets.read((stack.input, n) for n in partitions)
    return {each.partition: (each.offset, json.loads(each.metadata)) for each in found}


def position(stack: Deployment) -> int:
    """How many records the broad rule's backfill is through with."""
    return sum(offset for offset, _ in checkpoint(stack).values())


def phase(stack: Deployment) -> str | None:
    """Which step the backfill of the broad rule has come to; None before it is begun."""
    return next((noted["phase"] for _, noted in checkpoint(stack).values()), None)


def is_done(stack: Deployment) -> bool:
    """Whether the broad rule has learned and told all."""
    return phase(stack) == "done"


def due(stack: Deployment, directory: Path) -> Counter[str]:
    """What the broad rule has to tell: what a replay finds new in the log after the hand-over.

    The replay reads the log twice, by files: up to the hand-over, and whole.
    """
    handovers = {number: noted["handover"] for number, (_, noted) in checkpoint(stack).items()}
    log = read_all(stack.broker.bootstrap, stack.input)
    learned = [m for m in log if m.offset() < handovers.get(m.partition(), 0)]
    later = [m for m in log if m.offset() >= handovers.get(m.partition(), 0)]
    file = directory / "log.ndjson"
    file.write_bytes(b"".join(m.value() + b"\n" for m in learned))
    known = _replayed(stack, file)
    with file.open("ab") as lines:
        lines.writelines(m.value() + b"\n" for m in later)
    return Counter(_replayed(stack, file) - known)


def _replayed(stack: Deployment, file: Path) -> set[str]:
    found = stack.command(
        "replay", "--rules", stack.settings["FIRSTSEEN_RULES__PATHS"], str(file)
    ).stdout.splitlines()
    alerts = [json.loads(line) for line in found]
    return {alert["process"]["executable"] for alert in alerts if alert["rule"]["id"] == BROAD}

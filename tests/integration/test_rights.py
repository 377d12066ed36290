"""A user with few rights on the brokers: those that SECURITY.md names suffice, a missing one is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.clients import create_topic
from tests.deployment import Deployment
from tests.events import NO_JSON, encode, library_event
from tests.secured_kafka import SecuredKafka

pytestmark = pytest.mark.slow

RULE = "852c1f19-68e8-43a6-9dce-340771fe1be3"
COMMANDS = (
    ("topics", "plan"),
    ("topics", "apply"),
    ("worker",),
    ("alerts", "tail", "--max", "1"),
    ("dead-letters", "list"),
    ("history", "list"),
    ("history", "forget", RULE, "--yes"),
    ("history", "backfill", "--rule", RULE),
)
OURS = ("observations", "new_terms", "alerts", "overflow", "dead_letters")
CHANGELOGS = ("first-seen-changelog", "quota-changelog")


class Limited:
    """A deployment whose workers and commands log in as a user without any right at first."""

    def __init__(self, kafka: SecuredKafka, stack: Deployment) -> None:
        self._kafka = kafka
        self.stack = stack
        self.user = f"bob-{stack.prefix}"
        kafka.add_scram_user(self.user)
        create_topic(kafka.open.bootstrap, stack.input, partitions=2)
        stack.command("topics", "apply")
        self.ours = [stack.topic(name) for name in (*OURS, *CHANGELOGS)]
        stack.settings |= kafka.settings("LOGIN", user=self.user)

    def grant(self, right: str, *topics: str) -> None:
        self._kafka.grant(self.user, AclOperation[right], ResourceType.TOPIC, *topics)

    def grant_group(self) -> None:
        self._kafka.grant(self.user, AclOperation.READ, ResourceType.GROUP, self.stack.prefix)

    def grant_what_a_worker_needs(self, *, but: str = "") -> None:
        """Grant what SECURITY.md names, except reading one topic."""
        self.grant("READ", *({self.stack.input, *self.ours} - {but}))
        self.grant("WRITE", *self.ours)
        self.grant_group()

    def says(self, *arguments: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it says on standard error.

        Of the log, that is why a worker does not start.
        """
        done = self.stack.command(*arguments, check=False)
        return done.returncode, "\n".join(_told(done.stderr))


def _told(stderr: str) -> Iterator[str]:
    for line in stderr.splitlines():
        if not line.startswith("{"):
            yield line
        elif (event := json.loads(line))["event.action"] == "worker_not_started":
            yield event["error.message"]


@pytest.fixture
def limited(secured_kafka: SecuredKafka, prefix: str, tmp_path: Path) -> Iterator[Limited]:
    stack = Deployment(secured_kafka.open, prefix, tmp_path)
    yield Limited(secured_kafka, stack)
    stack.stop_workers()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_topics_that_a_user_may_not_see_are_not_said_to_be_missing(
    limited: Limited, arguments: tuple[str, ...]
):
    code, said = limited.says(*arguments)

    assert code == 4
    assert f"the brokers do not tell {limited.user!r} whether it exists" in said
    assert "grant the right Describe" in said
    assert "does not exist" not in said


def test_what_the_guide_names_is_all_that_a_worker_needs(limited: Limited):
    limited.grant_what_a_worker_needs()

    worker = limited.stack.start_worker()
    worker.wait_ready()
    limited.stack.produce([encode(library_event()), NO_JSON])
    limited.stack.wait_drained()

    assert worker.stop() == 0
    assert len(limited.stack.alerts()) == 1


def test_whoever_reads_alerts_letters_or_histories_needs_no_right_on_a_group(limited: Limited):
    stack = limited.stack
    limited.grant_what_a_worker_needs()
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce([encode(library_event()), NO_JSON])
    stack.wait_drained()
    assert worker.stop() == 0

    tailed = stack.command("alerts", "tail", "--from-beginning", "--max", "1", "--json")
    letters = stack.command("dead-letters", "list", "--json")
    histories = stack.command("history", "export")

    assert json.loads(tailed.stdout)["labels"]["alert_kind"] == "new_term"
    assert "invalid_json" in letters.stdout
    assert json.loads(histories.stdout)["rule_id"] == RULE


@pytest.mark.parametrize("topic", ["events", "observations"])
def test_a_worker_that_may_not_read_a_topic_names_it(limited: Limited, topic: str):
    name = limited.stack.topic(topic)
    limited.grant_what_a_worker_needs(but=name)
    limited.grant("DESCRIBE", name)

    worker = limited.stack.start_worker()

    assert worker.process.wait(60) == 4
    (failed,) = [
        line
        for line in map(json.loads, worker.log.read_text().splitlines())
        if line.get("event.action") == "worker_failed"
    ]
    assert failed["error.code"] == "broker"
    assert (
        f"do not let {limited.user!r} use topic {name}: it needs the right Read"
        in (failed["error.message"])
    )


def test_a_backfill_that_may_not_use_its_group_says_so_at_once(limited: Limited):
    limited.grant_what_a_worker_needs()

    code, said = limited.says("history", "backfill", "--rule", RULE)

    assert code == 4
    assert f"what the group {limited.stack.prefix}-backfill-" in said
    assert "Group authorization failed" in said

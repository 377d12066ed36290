"""The dead letter topic from the command line: look, write back, and get the alert after all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.cli.root import firstseen
from pipeline.config import Settings
from pipeline.kafka.dead_letters import requeue, survey
from pipeline.kafka.headers import DeadLetter, encode_dead_letter
from pipeline.record import Position
from tests.clients import SECONDS, Sent, client_config, create_topic, produce
from tests.deployment import Deployment, NewDeployment
from tests.events import NO_JSON, encode, library_event
from tests.record_batches import RawRecord, batch, produce_batch, section

HOSTILE = '{"dll":"\x1b[2J\u202egpj\n\nletter     9@9"'.encode()


def letter_of(deployment: Deployment, **changes: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "key": b"key-\x1b[31m",
        "value": HOSTILE,
        "headers": (("trace", b"\x00\xff"), ("trace", b"2")),
        "position": Position(deployment.input, 1, 42),
        "timestamp_ms": 1_700_000_000_123,
        "code": "invalid_json",
        "stage": "match",
        "message": "no JSON: \x1b[1m",
        "rule_id": None,
        "group_id": "g",
        "version": "0.1.0",
        "ruleset": "abc",
        "attempt": 2,
        "failed_at": datetime(2026, 3, 2, 8, tzinfo=UTC),
    }
    return DeadLetter(**{**given, **changes})


@pytest.fixture
def deployment(new_deployment: NewDeployment) -> Deployment:
    return new_deployment(input_partitions=2)


def put(deployment: Deployment, *letters: DeadLetter) -> None:
    encoded = [
        encode_dead_letter(each, max_record_bytes=1 << 20, max_value_bytes=1 << 16)
        for each in letters
    ]
    produce(
        deployment.broker.bootstrap,
        deployment.topic("dead_letters"),
        [Sent(e.value, e.key, 0, [(n, v) for n, v in e.headers]) for e in encoded],
    )


def command(deployment: Deployment, *arguments: str) -> Result:
    return CliRunner().invoke(firstseen, ["dead-letters", *arguments], env=deployment.env)


def listed(deployment: Deployment, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command(deployment, "list", "--json", *arguments).stdout)
    return found


def test_letters_are_listed_filtered_and_counted_by_reason(deployment: Deployment):
    long_ago = datetime.now(UTC) - timedelta(days=3)
    put(
        deployment,
        letter_of(deployment, failed_at=datetime.now(UTC), code="too_large"),
        letter_of(deployment, failed_at=long_ago),
        letter_of(deployment, failed_at=long_ago, position=Position("other", 0, 7)),
    )
    produce(deployment.broker.bootstrap, deployment.topic("dead_letters"), [b"a stranger"])
    unspeakable = batch(section([RawRecord(b"another", None, ((b"\xff", b""),))]), 1)
    produce_batch(deployment.broker.bootstrap, deployment.topic("dead_letters"), 0, unspeakable)

    everything = listed(deployment)
    table = command(deployment, "list", "--max", "1")

    assert [each["letter"] for each in everything["letters"]] == ["0@1", "0@2", "0@0"]
    assert everything["codes"] == {"invalid_json": 2, "too_large": 1}
    assert (everything["total"], everything["pending"], everything["foreign"]) == (3, 3, 2)
    assert [e["letter"] for e in listed(deployment, "--code", "too_large")["letters"]] == ["0@0"]
    assert [e["letter"] for e in listed(deployment, "--topic", "other")["letters"]] == ["0@2"]
    assert [e["letter"] for e in listed(deployment, "--since", "1h")["letters"]] == ["0@0"]
    assert "0@0" in table.stdout
    assert "0@1" not in table.stdout
    assert "3 dead letters (the latest 1 shown): 2 invalid_json, 1 too_large" in table.stderr
    assert "\x1b" not in table.stdout


def test_what_restarts_told_again_is_listed_and_requeued_once(deployment: Deployment):
    """A worker that stops itself commits nothing: the next one meets the same records."""
    start = datetime.now(UTC) - timedelta(minutes=5)
    put(
        deployment,
        *(letter_of(deployment, failed_at=start + timedelta(seconds=n)) for n in range(3)),
        letter_of(deployment, failed_at=start, attempt=3),
    )

    found = listed(deployment)
    by_repeat = command(deployment, "requeue", "--position", "0@0", "--dry-run")
    unknown = command(deployment, "requeue", "--position", "0@77", "--dry-run")
    requeued = command(deployment, "requeue", "--all", "--yes")

    assert [each["letter"] for each in found["letters"]] == ["0@3", "0@2"]
    assert "1 would be requeued" in by_repeat.stderr
    assert (unknown.exit_code, "there is no dead letter 0@77" in unknown.stderr) == (2, True)
    assert (found["total"], found["repeated"]) == (2, 2)
    assert "2 requeued, 0 refused" in requeued.stderr
    assert listed(deployment)["pending"] == 0


def test_a_list_can_fail_a_check_while_letters_wait(deployment: Deployment):
    empty = command(deployment, "list", "--fail")
    put(deployment, letter_of(deployment))
    waiting = command(deployment, "list", "--fail")
    command(deployment, "requeue", "--all", "--yes")
    requeued = command(deployment, "list", "--fail")

    assert (empty.exit_code, empty.stderr) == (0, "no dead letters\n")
    assert (waiting.exit_code, requeued.exit_code) == (1, 0)
    assert "1 of them requeued" in requeued.stderr


@pytest.mark.parametrize("name", ["0@0", "{input}[1]@42"])
def test_a_letter_is_shown_so_that_it_cannot_drive_the_terminal(deployment: Deployment, name: str):
    put(deployment, letter_of(deployment))
    name = name.format(input=deployment.input)

    shown = command(deployment, "show", name).stdout
    raw = command(deployment, "show", name, "--raw").stdout_bytes

    assert raw == HOSTILE
    assert "invalid_json: no JSON: \\x1b[1m" in shown
    assert "key-\\x1b[31m" in shown
    assert "trace: \\x00\\xff" in shown
    assert "\\x1b[2J\\u202egpj\\n\\nletter" in shown
    assert sum(line.startswith("letter ") for line in shown.splitlines()) == 1
    assert "\x1b" not in shown


def test_a_letter_that_is_not_there_is_named(deployment: Deployment):
    # The embedded broker leaves a fetch beyond the end without an answer.
    for name in ("0@99", "nowhere[0]@1") if deployment.broker.is_apache else ("nowhere[0]@1",):
        done = command(deployment, "show", name)
        assert done.exit_code == 2
        assert f"there is no dead letter {name}" in done.stderr


def test_a_reason_that_no_letter_has_is_answered_with_those_there_are(deployment: Deployment):
    put(deployment, letter_of(deployment), letter_of(deployment, code="too_large"))

    done = command(deployment, "requeue", "--code", "to_large", "--yes")

    assert done.exit_code == 0
    assert "no dead letter matches; there are letters with: invalid_json, too_large" in done.stderr


def test_a_letter_goes_back_as_it_came_and_only_once(deployment: Deployment):
    put(deployment, letter_of(deployment))

    looked = command(deployment, "requeue", "--position", "0@0", "--dry-run")
    assert deployment.read("events") == []
    asked = command(deployment, "requeue", "--all")
    first = command(deployment, "requeue", "--all", "--yes")
    second = command(deployment, "requeue", "--all", "--yes", "--json")
    third = command(deployment, "requeue", "--all", "--yes", "--again")

    message, again = deployment.read("events")
    assert "1 would be requeued" in looked.stderr
    assert (asked.exit_code, "use --yes" in asked.stderr) == (2, True)
    assert "1 requeued, 0 refused" in first.stderr
    assert json.loads(second.stdout)["skipped"] == 1
    assert "1 requeued" in third.stderr
    assert (message.key(), message.value(), message.partition()) == (b"key-\x1b[31m", HOSTILE, 1)
    assert message.headers() == [
        ("trace", b"\x00\xff"),
        ("trace", b"2"),
        ("firstseen.attempt", b"2"),
    ]
    assert again.value() == HOSTILE
    assert listed(deployment)["letters"][0]["requeued"] == 2


def test_what_cannot_go_back_stays_and_says_why(deployment: Deployment):
    elsewhere = f"{deployment.prefix}-elsewhere"
    create_topic(deployment.broker.bootstrap, elsewhere)
    put(
        deployment,
        letter_of(deployment, truncated=True, position=Position(deployment.input, 1, 41)),
        letter_of(deployment, position=Position(elsewhere, 0, 1)),
        letter_of(deployment),
    )

    done = command(deployment, "requeue", "--all", "--yes")

    assert done.exit_code == 1
    assert "0@0" in done.stderr
    assert "lost its end" in done.stderr
    assert f"{elsewhere} is no topic that these workers read" in done.stderr
    assert len(deployment.read("events")) == 1
    assert deployment.read("elsewhere") == []


def test_requeue_wants_to_know_which(deployment: Deployment):
    done = command(deployment, "requeue")

    assert done.exit_code == 2
    assert "--all for every one" in done.stderr


def test_a_record_that_failed_of_a_limit_raises_its_alert_once_it_is_requeued(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment(input_partitions=2)
    small = {"FIRSTSEEN_STREAM__MAX_EVENT_BYTES": "64KiB"}
    event = library_event(number=7, executable=r"C:\Users\ann\late.exe")
    event["message"] = "x" * 100_000
    worker = stack.start_worker(**small)
    worker.wait_ready()
    stack.produce([encode(library_event(number=1)), encode(event)])
    stack.wait_drained()
    before = [alert["event"]["id"] for alert in stack.alerts()]
    (letter,) = listed(stack)["letters"]
    worker.stop()

    larger = stack.start_worker()
    larger.wait_ready()
    command(stack, "requeue", "--code", "too_large", "--yes")
    stack.wait_drained()
    alerts = stack.alerts()

    assert (letter["code"], letter["attempt"], letter["truncated"]) == ("too_large", 1, False)
    assert len(before) == 1
    (late,) = [alert for alert in alerts if alert["event"]["id"] not in before]
    assert late["process"]["executable"] == r"C:\Users\ann\late.exe"
    assert late["detection"]["event_id"] == "event-00000007"
    assert listed(stack)["pending"] == 0


def test_a_record_that_fails_again_says_how_often_it_has(kafka_deployment: NewDeployment):
    stack = kafka_deployment(input_partitions=1)
    worker = stack.start_worker()
    worker.wait_ready()
    stack.produce([NO_JSON])
    stack.wait_drained()
    command(stack, "requeue", "--all", "--yes")
    stack.wait_drained()

    found = listed(stack)["letters"]

    assert [(each["attempt"], each["requeued"], each["offset"]) for each in found] == [
        (1, 1, 0),
        (2, 0, 1),
    ]


def test_what_retention_deletes_meanwhile_keeps_no_other_letter_from_being_requeued(
    kafka_deployment: NewDeployment,
):
    stack = kafka_deployment(input_partitions=1)
    put(stack, *(letter_of(stack, position=Position(stack.input, 0, n)) for n in range(3)))
    settings = Settings.load(environ=stack.env)
    letters = survey(settings).letters

    admin = AdminClient(client_config(stack.broker.bootstrap))
    first = TopicPartition(stack.topic("dead_letters"), 0, letters[0].place.offset + 1)
    for deleted in admin.delete_records([first]).values():
        deleted.result(SECONDS)
    done = requeue(settings, letters)

    assert [letters[0].place] == [letter.place for letter, _ in done.refused]
    assert 2 == len(done.written)

"""The commands that speak to a broker, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from pipeline.cli.root import firstseen
from tests.brokers import Broker
from tests.clients import Sent, client_config, create_topic, produce

ROLES = ("observations", "new_terms", "alerts", "overflow", "dead_letters")


@pytest.fixture
def cli(start, broker: Broker, prefix: str) -> Callable[..., tuple[int, str, str]]:
    """cli("topics", "plan") -> (exit code, stdout, stderr), with topics of this test alone."""

    def call(*arguments: object) -> tuple[int, str, str]:
        process = start(*arguments, env=environment(broker, prefix), text=True)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return call


def environment(broker: Broker, prefix: str) -> dict[str, str]:
    return {
        **os.environ,
        "FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "FIRSTSEEN_KAFKA__GROUP_ID": prefix,
        "FIRSTSEEN_TOPICS__REPLICATION": "1",
        "FIRSTSEEN_TOPICS__INPUTS": f"{prefix}-input",
        **{f"FIRSTSEEN_TOPICS__{role.upper()}": f"{prefix}-{role}" for role in ROLES},
    }


def test_topics_are_planned_applied_and_then_as_they_should_be(cli, broker, prefix):
    planned, text, _ = cli("topics", "plan", "--create-inputs", 3)
    applied, _, said = cli("topics", "apply", "--create-inputs", 3)
    again = cli("topics", "plan", "--json")

    assert (planned, applied) == (1, 0)
    assert f"{prefix}-alerts" in text
    assert "changes made" in said
    assert (again[0], json.loads(again[1])) == (0, {"changes": [], "findings": []})
    topics = AdminClient(client_config(broker.bootstrap)).list_topics(timeout=10).topics
    assert len(topics[f"{prefix}-input"].partitions) == 3
    assert f"{prefix}-first-seen-changelog" in topics


def test_an_input_that_does_not_exist_is_somebody_else_s_to_create(cli, broker, prefix):
    code, text, _ = cli("topics", "apply")

    topics = AdminClient(client_config(broker.bootstrap)).list_topics(timeout=10).topics
    assert code == 4
    assert f"input topic {prefix}-input does not exist" in text
    assert f"{prefix}-input" not in topics
    assert f"{prefix}-alerts" in topics


def test_an_input_that_exists_is_never_changed(cli, broker, prefix):
    create_topic(broker.bootstrap, f"{prefix}-input", partitions=2)
    code, text, _ = cli("topics", "apply", "--create-inputs", 5)

    topics = AdminClient(client_config(broker.bootstrap)).list_topics(timeout=10).topics
    assert code == 0, text
    assert len(topics[f"{prefix}-input"].partitions) == 2


def test_a_worker_without_topics_says_what_to_run(cli, prefix):
    code, out, err = cli("worker")

    assert (code, out) == (4, "")
    assert f"{prefix}-alerts does not exist; run: firstseen topics apply" in err
    assert "Traceback" not in err


def alert(number: int) -> bytes:
    document = {
        "event": {"id": f"id-{number}"},
        "rule": {"name": f"Rule {number}"},
        "labels": {"severity": "low"},
    }
    return json.dumps(document).encode()


def test_alerts_are_read_from_the_beginning(cli, broker, prefix):
    topic = f"{prefix}-alerts"
    create_topic(broker.bootstrap, topic, partitions=2)
    produce(broker.bootstrap, topic, [Sent(alert(n), partition=n % 2) for n in range(4)])

    code, out, _ = cli("alerts", "tail", "--from-beginning", "--json", "--max", 4)
    read = sorted(json.loads(line)["event"]["id"] for line in out.splitlines())
    assert (code, read) == (0, ["id-0", "id-1", "id-2", "id-3"])


def test_alerts_of_the_overflow_are_read_for_people(cli, broker, prefix):
    topic = f"{prefix}-overflow"
    create_topic(broker.bootstrap, topic)
    produce(broker.bootstrap, topic, [alert(1), b"\x1b[2Jno alert", alert(2)])

    code, out, _ = cli("alerts", "tail", "--overflow", "--from-beginning", "--max", 3)
    heads = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert (code, heads) == (
        0,
        ["● low  Rule 1  ", "not an alert: \\x1b[2Jno alert", "● low  Rule 2  "],
    )


def test_alerts_are_followed_as_they_arrive_until_ctrl_c(start, broker, prefix):
    topic = f"{prefix}-alerts"
    create_topic(broker.bootstrap, topic)
    following = start("alerts", "tail", "--json", env=environment(broker, prefix), text=True)
    assert following.stderr.readline() == f"following {topic}; Ctrl-C ends it\n"

    produce(broker.bootstrap, topic, [alert(7)])
    assert json.loads(following.stdout.readline())["event"]["id"] == "id-7"

    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "Traceback" not in err


def test_a_topic_without_alerts_yet_must_exist_all_the_same(cli, prefix):
    code, _, err = cli("alerts", "tail")

    assert code == 4
    assert err == (f"Error: topic {prefix}-alerts does not exist; run: firstseen topics apply\n")


@pytest.mark.broker
def test_the_demo_shows_alerts_and_leaves_nothing_behind(start, tmp_path):
    demo = start("demo", "--once", env={**os.environ, "TMPDIR": str(tmp_path)}, text=True)
    out, err = demo.communicate(timeout=120)

    assert demo.returncode == 0, err
    assert out.count("Suspicious PowerShell Engine ImageLoad") >= 4
    assert "500 events sent · 500 read" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.broker
def test_the_demo_plays_a_file_with_rules_of_one_s_own(start, tmp_path):
    events, rule, scratch = tmp_path / "events.ndjson", tmp_path / "rule.toml", tmp_path / "scratch"
    scratch.mkdir()
    events.write_text('{"@timestamp":"2026-03-02T08:00:00Z","user":{"name":"ann"}}\n' * 3 + "{\n")
    rule.write_text(
        '[rule]\nrule_id = "ann-1"\nname = "Ann does something"\ndescription = "Ann."\n'
        'type = "query"\nlanguage = "kuery"\nseverity = "low"\nrisk_score = 21\n'
        "query = 'user.name:ann'\n"
    )
    env = {**os.environ, "TMPDIR": str(scratch)}
    demo = start("demo", "--once", "--events", events, "--rules", rule, env=env, text=True)
    out, err = demo.communicate(timeout=120)

    assert demo.returncode == 0, err
    assert out.count("● low  Ann does something") == 3
    assert "4 events sent · 4 read" in err


@pytest.mark.broker
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_stopped_takes_everything_with_it(start, tmp_path, number, code):
    demo = start("demo", env={**os.environ, "TMPDIR": str(tmp_path)}, text=True)
    assert demo.stdout.readline().startswith("● medium")
    family = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(number)
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == code
    assert "Traceback" not in err
    assert len(family) >= 4  # broker and worker, each with its guard
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_no_setting_of_the_user_leads_a_demo_into_a_real_cluster():
    demo = firstseen.get_command(None, "demo")  # type: ignore[arg-type]

    assert {name for option in demo.params for name in option.opts}.isdisjoint(
        {"--config", "--set"}
    )

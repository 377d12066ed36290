"""Whatever comes in, the worker stays up and every record ends exactly once, with its reason."""

from collections import Counter

from confluent_kafka import Message

from pipeline.engine.match import Disposition, MatchStage
from pipeline.engine.prefilter import Prefilter
from pipeline.kafka.headers import parse_dead_letter
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules import RuleSet, load_rules
from tests.clients import read_all
from tests.deployment import NewDeployment
from tests.events import ENGINE
from tests.mutations import bad_records

RECORDS = 10_000


def judge(stage: MatchStage, message: Message) -> tuple[Disposition, str | None]:
    """Return how the engine alone ends this record."""
    outcome = stage.process(
        Record(
            Position(message.topic(), message.partition(), message.offset()),
            message.key(),
            message.value(),
            (),
            message.timestamp()[1],
            message.timestamp()[1],
        )
    )
    return outcome.disposition, outcome.error.reason if outcome.error else None


def test_ten_thousand_bad_records_end_as_the_engine_alone_ends_them(new_deployment: NewDeployment):
    stack = new_deployment(
        settings={
            "FIRSTSEEN_DEAD_LETTERS__MAX_RATIO": "null",
            "FIRSTSEEN_DEAD_LETTERS__MAX_CONSECUTIVE": "null",
        }
    )
    worker = stack.start_worker()
    worker.wait_ready()

    stack.produce(bad_records(RECORDS, seed=5))
    stack.wait_drained()

    ruleset, _ = RuleSet.compile(load_rules(None).rules, FieldTable.builtin())
    stage = MatchStage(ruleset, prefilter=Prefilter.from_ruleset(ruleset))
    judged = {
        (m.partition(), m.offset()): judge(stage, m)
        for m in read_all(stack.broker.bootstrap, stack.input)
    }
    expected = Counter(disposition for disposition, _ in judged.values())
    counted = {
        disposition: worker.metric("firstseen_records_processed_total", outcome=disposition.value)
        for disposition in Disposition
    }
    letters = [
        parse_dead_letter(m.key(), m.value(), tuple(m.headers() or ()))
        for m in stack.read("dead_letters")
    ]
    reasons = {
        (letter.position.partition, letter.position.offset): letter.code for letter in letters
    }

    assert worker.process.poll() is None
    assert len(judged) == RECORDS
    assert counted == {d: expected.get(d, 0) for d in Disposition}
    assert len(letters) == len(reasons)
    assert reasons == {place: reason for place, (_, reason) in judged.items() if reason is not None}
    assert set(reasons.values()) >= {
        "duplicate_key",
        "invalid_json",
        "invalid_utf8",
        "not_an_object",
        "too_deep",
        "too_large",
    }


def test_too_many_bad_records_in_a_row_stop_the_worker(new_deployment: NewDeployment):
    stack = new_deployment(
        input_partitions=1, settings={"FIRSTSEEN_DEAD_LETTERS__MAX_CONSECUTIVE": "20"}
    )
    worker = stack.start_worker()
    worker.wait_ready()

    stack.produce([f"{ENGINE}, but no JSON".encode()] * 50)

    assert worker.process.wait(60) == 5
    assert "20 records in a row" in worker.tail()
    assert len(stack.read("dead_letters")) <= 50

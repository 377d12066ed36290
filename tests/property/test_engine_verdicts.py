"""Of events that read alike to the rules, the rules say the same; and none is accepted wrongly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

from aiokafka.structs import TopicPartition
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.config import Settings
from pipeline.engine import paths
from pipeline.engine.alike import Reader, native_reader
from pipeline.engine.decode import DecodeLimits, decode
from pipeline.engine.match import NO_MATCH, Disposition, MatchStage, Outcome
from pipeline.engine.verdicts import Verdicts
from pipeline.engine.wire import encode
from pipeline.kql import format_query
from pipeline.record import Position, Record
from pipeline.rules.model import ExceptionItem, NewTerms, Rule
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import usable_time
from pipeline.stream.judging import Judge
from pipeline.stream.records import LOG_APPEND_TIME
from pipeline.stream.transport.bundles import FetchedRecord
from pipeline.telemetry.metrics import Metrics
from tests.json_spellings import json_texts
from tests.rules import new_terms_rule
from tests.scans import KINDS
from tests.strategies import (
    TABLE,
    events,
    json_documents,
    queries,
    selective_queries,
    wordy_events,
)

pytestmark = list(KINDS[1].marks)

NOW_MS = 1_772_438_400_000
TIME = "2026-03-02T08:00:00.000Z"
TERMS = ["k", "k.caseless", "o.k", "o.p.w", "o.n", "ip", "flat.a", "b", "t", "dyn.a"]
NOISE = ["z", "o.z", "oo", "k.z", "nest.z", "p", "event.ingested", "data_stream.type", "flat.a.z"]
FELT = [
    "k",
    "o",
    "nest",
    "n",
    "b",
    "ip",
    "c",
    "t",
    "x",
    "short",
    "msg",
    "flat",
    "dyn",
    "o.k",
    "p.w",
]
VALUES = [1, "a", None, {"k": "a"}, [], [{"k": "ab"}], {"z": 1}, True, "b", "2024-01-01"]


def rules(drawn: list[tuple[Any, list[str], list[Any]]]) -> RuleSet:
    return RuleSet.compile(
        [
            new_terms_rule(
                rule_id=f"r{number}",
                query=format_query(node),
                new_terms=NewTerms(tuple(terms), 86_400_000, "now-1d"),
                exceptions=tuple(
                    ExceptionItem("x", (f"r{number}",), format_query(each)) for each in excepted
                ),
            )
            for number, (node, terms, excepted) in enumerate(drawn)
        ],
        TABLE,
    )[0]


rule_sets = st.lists(
    st.tuples(
        st.one_of(queries(), selective_queries()),
        st.lists(st.sampled_from(TERMS), min_size=1, max_size=2, unique=True),
        st.lists(st.one_of(queries(), selective_queries()), max_size=2),
    ),
    min_size=1,
    max_size=3,
).map(rules)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from objects(each)


def noisy(event: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the event with something changed that matters to no rule, or to some."""
    rng = Random(seed)
    copy: dict[str, Any] = json.loads(json.dumps(event))
    place = rng.choice(list(objects(copy)))
    place[rng.choice(rng.choice((NOISE, FELT)))] = rng.choice(VALUES)
    return copy


def record(value: bytes, offset: int = 0) -> Record:
    return Record(Position("t", 0, offset), None, value, (), NOW_MS, NOW_MS, NOW_MS)


def fetched(value: bytes, offset: int = 0) -> FetchedRecord:
    return FetchedRecord("t", 0, offset, NOW_MS, LOG_APPEND_TIME, None, value, ())


def reader_of(ruleset: RuleSet, limits: DecodeLimits) -> Reader:
    reader = native_reader(ruleset, limits, match_index=True)
    assume(reader is not None and ruleset.runnable)
    assert reader is not None
    return reader


def said(outcome: Outcome) -> tuple[object, ...]:
    """Return what of an outcome is said of all events that read alike, and what is sent."""
    sent = [(each.key, encode(each.observation())) for each in outcome.sightings]
    return outcome.disposition, outcome.matches, sent, outcome.without_tuple, outcome.failures


@settings(max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(rule_sets, st.one_of(events(), wordy_events()), st.integers(0, 2**32))
def test_what_was_said_of_an_event_holds_for_all_that_read_alike(
    ruleset: RuleSet, event: dict[str, Any], seed: int
) -> None:
    verdicts = Verdicts(ruleset, reader_of(ruleset, DecodeLimits()))
    event = {**event, "@timestamp": TIME}
    values = [json.dumps(each).encode() for each in (event, noisy(event, seed))]
    stage = MatchStage(ruleset)
    assume(verdicts.digest(values[0]) is not None)
    verdicts.remember(values[0], stage.process(record(values[0])))

    known = verdicts.judge([fetched(values[1])], 0, "t", 0, NOW_MS)

    assume(known.next_may_be_known)
    outcome = stage.process(record(values[1]))
    if known.next_matches_nothing:
        assert said(outcome) == said(NO_MATCH)
    else:
        ((known_outcome, records),) = known.outcomes
        assert records == known.records == 1
        expected = said(outcome)
        assert (*said(known_outcome)[:2], known.sent, *said(known_outcome)[3:]) == expected


LIMITS = DecodeLimits(max_depth=4, max_values=12)


def mangled(text: str, seed: int) -> bytes:
    """Return a text with a few of its bytes exchanged."""
    rng = Random(seed)
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice((0, 0, 1, 2))):
        if data:
            data[rng.randrange(len(data))] = rng.choice(b'{}[]":,\\u0e1.- \n\x00\xff')
    return bytes(data)


identified = st.builds(
    lambda event, value, time, event_id: {
        **event,
        "k": value,
        "@timestamp": time,
        "event": {"id": event_id},
    },
    st.dictionaries(st.sampled_from(["o", "z", "nest"]), st.sampled_from(VALUES), max_size=2),
    st.sampled_from(["a", "ab", "\u00e9", 1, ["a", "b"], {"k": "a"}]),
    st.sampled_from([TIME, TIME, TIME, "yesterday", 1_772_438_400_000]),
    st.sampled_from(["id-1", "id-2", "", "\u00e4\n", ["a"]]),
)
"""Events with what is taken: an id, a time, and a value of the field that the rule asks for."""


@settings(max_examples=600)
@given(
    st.one_of(identified, identified, events(), json_documents()).flatmap(json_texts),
    st.integers(0, 2**32),
)
def test_what_is_taken_from_is_one_good_document_for_the_decoder(text: str, seed: int) -> None:
    ruleset = rules([(node, ["k"], []) for node in [_node("k:a or o.n >= 1 or nest:{k:a}")]])
    reader = reader_of(ruleset, LIMITS)
    value = mangled(text.strip(" \t\r\n"), seed)

    taken = reader.projection.take(value)

    if taken is not None:
        _, taken_time, event_id, texts = taken
        decoded = decode(value, LIMITS)
        assert decoded.error is None
        assert len(decoded.documents) == 1
        event = decoded.documents[0].event
        time = event.get("@timestamp")
        assert taken_time == (time if isinstance(time, str) else None)
        assert event_id == paths.text_at(event, "event.id")
        for path, found in zip(("k",), texts, strict=True):
            assert found is None or found == paths.text_at(event, path)


def _node(query: str) -> Any:
    from pipeline.kql import parse

    return parse(query)


BROAD = [
    new_terms_rule(
        rule_id="a", query="k:(a or ab)", new_terms=NewTerms(("o.k", "b"), 86_400_000, "now-1d")
    ),
    new_terms_rule(
        rule_id="b",
        query="o.n >= 1",
        new_terms=NewTerms(("o.k",), 86_400_000, "now-1d"),
        timestamp_override="event.ingested",
    ),
    new_terms_rule(
        rule_id="c",
        query='k.caseless:* and not (o.k:y* or o.k:"x\\"y")',
        new_terms=NewTerms(("k.caseless", "o.short"), 86_400_000, "now-1d"),
    ),
]
TIMES = [*[TIME] * 12, "2026-03-02T08:04:00Z", "2027-01-01", "1970", 1, None]
KEYS = [*["a"] * 6, "A", "b", "ab", "\u00c4b\n", ["a", "ab"]]
OBJECT_KEYS = ["x", "y", "z", 'x"y', "z" * 300, "z" * 1100, ["x", "y"]]
EVENTS = [{"id": "1"}, {"id": "\t\u20ac"}, {"id": "2"}, {"ingested": TIME}, {}]


def drawn_event(rng: Random) -> dict[str, Any]:
    """Return an event like many others: most of what it has is of no interest, or the same."""
    return {
        "@timestamp": rng.choice(TIMES),
        "k": rng.choice(KEYS),
        "o": {
            "n": rng.randrange(2),
            "k": rng.choice(OBJECT_KEYS),
            "short": rng.choice(["abc", "abcd"]),
        },
        "b": rng.random() < 0.8,
        "event": rng.choice(EVENTS),
        **({"@timestamp.z": TIME} if rng.random() < 0.02 else {}),
        **({"o.k": "x"} if rng.random() < 0.02 else {}),
        "z": round(rng.random(), 9),  # of more digits nothing is remembered
    }


def judged(values: list[bytes], verdicts: Verdicts | None, rules: list[Rule]) -> tuple[Any, ...]:
    """Return what becomes of records, and all metrics."""
    metrics = Metrics()
    judge = Judge(Settings(), MatchStage(RuleSet.compile(rules, TABLE)[0]), metrics, verdicts)
    # The last ones are read again, as after a rebalance.
    offsets = [*range(len(values)), *range(len(values) // 2, len(values))]
    records = [fetched(values[offset], offset) for offset in offsets]
    ends = list(judge.judge_all(TopicPartition("t", 0), records))
    judge.counts.export()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created") and sample.name.startswith("firstseen_")
    }
    ended: Counter[Disposition] = Counter()
    for end in ends:
        ended[end.disposition] += end.records
    dead = [end.dead[0].position for end in ends if end.dead is not None]
    return [sent for end in ends for sent in end.observations], dead, ended, samples


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.data())
def test_with_remembered_verdicts_the_same_is_sent_and_counted(seed: int, data: Any) -> None:
    rng = Random(seed)
    ruleset = RuleSet.compile(BROAD, TABLE)[0]
    drawn = [drawn_event(rng) for _ in range(60)]
    values = [json.dumps(event).encode() for event in drawn]
    for _ in range(3):
        place = rng.randrange(len(values))
        values[place] = data.draw(json_texts(drawn[place])).strip(" \t\r\n").encode()

    verdicts = Verdicts(ruleset, reader_of(ruleset, DecodeLimits()))

    assert judged(values, verdicts, BROAD) == judged(values, None, BROAD)
    assert len(verdicts) > 3


def test_a_time_that_is_taken_is_the_time_of_the_event() -> None:
    assert usable_time(TIME) == NOW_MS

"""What the rules can depend on is taken of an event; verdicts are kept within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.engine import verdicts
from pipeline.engine.alike import ApartTerm, Reader, Reading, TextClasses, native_reader
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import Disposition, MatchStage, Outcome, RuleFailure
from pipeline.engine.verdicts import Verdicts
from pipeline.errors import DecodeError
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules.model import NewTerms
from pipeline.rules.ruleset import RuleSet
from tests.rules import new_terms_rule
from tests.scans import KINDS
from tests.strategies import FIELDS

native = list(KINDS[1].marks)

TABLE = FieldTable.from_mapping(FIELDS)
NOW_MS = 1_772_438_400_000
TIME = "2026-03-02T08:00:00.000Z"
EXISTS = {"query": {"exists": {"field": "o.p.w"}}}
NEGATED = {"meta": {"negate": True}, "query": {"wildcard": {"o.k": {"value": "x*"}}}}
IN_PARTS = {"query": {"match_phrase": {"o": {"k": "x"}}}}


def rule_set(query: str, terms: tuple[str, ...] = ("k",), **more: Any) -> RuleSet:
    new_terms = NewTerms(terms, 86_400_000, "now-1d")
    ruleset, _ = RuleSet.compile([new_terms_rule(query=query, new_terms=new_terms, **more)], TABLE)
    assert ruleset.runnable
    return ruleset


def reader_of(ruleset: RuleSet) -> Reader:
    reader = native_reader(ruleset, DecodeLimits(), match_index=True)
    assert reader is not None
    return reader


def encoded(event: dict[str, Any]) -> bytes:
    return json.dumps({"@timestamp": TIME, **event}).encode()


def outcome(ruleset: RuleSet, event: dict[str, Any]) -> Outcome:
    value = encoded(event)
    record = Record(Position("t", 0, 0), None, value, (), NOW_MS, NOW_MS, NOW_MS)
    return MatchStage(ruleset).process(record)


def said(ruleset: RuleSet, event: dict[str, Any]) -> object:
    found = outcome(ruleset, event)
    return found.disposition, [(seen.key, seen.match.time_source) for seen in found.seen]


STREAM = {"type": "logs", "dataset": "x", "namespace": "default"}


@pytest.mark.parametrize(
    ("ruleset", "event", "other"),
    [
        (rule_set("k:a"), {"k": "a"}, {"k": "b"}),
        (rule_set("k:a"), {"k": "a"}, {"k": ["a", "b"]}),
        (rule_set("k.caseless:a"), {"k": "A"}, {"k": "b"}),
        (rule_set("o.k:a", ("o.n",)), {"o": {"k": "a", "n": 1}}, {"o": {"k": "a", "n": 2}}),
        (rule_set("o.k:a", ("o.k",)), {"o": {"k": "a"}}, {"o": [{"k": "a"}, {"k": "b"}]}),
        (rule_set("o.k:a", ("o.k",)), {"o": {"k": "a"}}, {"o": {"k": "a"}, "o.k": "b"}),
        (
            rule_set("o.p.w:a", ("o.p.w",)),
            {"o": {"p.w": "a"}},
            {"o": {"p.w": "a", "p": {"w": "b"}}},
        ),
        (rule_set("not o.k:*"), {"k": "a"}, {"k": "a", "o": {"k": "a"}}),
        (rule_set("o:*"), {"k": "a", "o": {"n": 1}}, {"k": "a", "o": {"z": 1}}),
        (
            rule_set("o.p*:a"),
            {"k": "a", "o": {"p": {"w": "a"}}},
            {"k": "a", "o": {"p": {"w": "b"}}},
        ),
        (rule_set("flat:a"), {"k": "a", "flat": {"x": "a"}}, {"k": "a", "flat": {"x": "b"}}),
        (rule_set("flat.x:a"), {"k": "a", "flat.x": "a"}, {"k": "a", "flat.x": "b"}),
        (rule_set("dyn.new:a"), {"k": "a", "dyn": {"new": "a"}}, {"k": "a", "dyn": {"new": "b"}}),
        (
            rule_set("nest:{k:a and n:1}"),
            {"k": "a", "nest": [{"k": "a", "n": 1}, {}]},
            {"k": "a", "nest": [{"k": "a"}, {"n": 1}]},
        ),
        (rule_set("nest:{not k:a}"), {"k": "a", "nest": {"z": 1}}, {"k": "a"}),
        (rule_set("nest:{deep:{k:a}}"), {"k": "a", "nest": {"deep": {"k": "a"}}}, {"k": "a"}),
        (rule_set("k:a", filters=(EXISTS,)), {"k": "a", "o": {"p": {"w": "a"}}}, {"k": "a"}),
        (rule_set("k:a", filters=(NEGATED,)), {"k": "a"}, {"k": "a", "o": {"k": "xy"}}),
        (rule_set("k:a", filters=(IN_PARTS,)), {"k": "a", "o": {"k": "x"}}, {"k": "a"}),
        (
            rule_set("k:a", index=("logs-x-*",)),
            {"k": "a", "data_stream": STREAM},
            {"k": "a", "data_stream": STREAM | {"dataset": "y"}},
        ),
        (
            rule_set("k:a", timestamp_override="event.ingested"),
            {"k": "a"},
            {"k": "a", "event": {"ingested": TIME}},
        ),
    ],
    ids=lambda value: value.runnable[0].query if isinstance(value, RuleSet) else "",
)
@pytest.mark.parametrize("swapped", [False, True])
class TestDifferentVerdicts:
    pytestmark = native

    def test_come_from_events_of_which_different_things_are_read(
        self, ruleset: RuleSet, event: dict[str, Any], other: dict[str, Any], swapped: bool
    ) -> None:
        read = reader_of(ruleset).read
        first, second = (other, event) if swapped else (event, other)

        assert said(ruleset, first) != said(ruleset, second)
        assert read(encoded(first)) != read(encoded(second))


class TestNothingIsRead:
    pytestmark = native

    @pytest.mark.parametrize(
        "ruleset",
        [
            rule_set("a"),
            rule_set("k:a or *:*"),
            rule_set("k:a", timestamp_override="t", timestamp_override_fallback_disabled=True),
        ],
        ids=lambda ruleset: ruleset.runnable[0].query,
    )
    def test_where_a_rule_reads_more_than_fields(self, ruleset: RuleSet) -> None:
        assert native_reader(ruleset, DecodeLimits(), match_index=True) is None

    def test_of_what_is_not_plain(self) -> None:
        read = reader_of(rule_set("k:a")).read

        assert read(b'{"k":"a","k":"b"}') is None
        assert read(b'[{"k":"a"}]') is None
        assert read(b'{"k":"a"}\n{"k":"a"}') is None

    def test_of_an_event_with_another_time_where_a_rule_asks_for_one(self) -> None:
        read = reader_of(rule_set("k:a", timestamp_override="event.ingested")).read

        assert read(b'{"k":"a","event":{"ingested":"x"}}') is None
        assert read(b'{"k":"a","event":{"id":"x"}}') is not None

    @pytest.mark.parametrize("name", ["@timestamp.x", "@timestamp."])
    def test_of_a_time_that_stands_below_the_field(self, name: str) -> None:
        read = reader_of(rule_set("k:a")).read

        assert read(json.dumps({name: TIME, "k": "a"}).encode()) is None

    def test_a_key_with_points_of_its_own_is_left_alone(self) -> None:
        read = reader_of(rule_set("o.k:a")).read

        assert read(b'{"o":{".k":"a"}}') is None
        assert read(b'{"o.":{"k":"a"}}') is None


class TestTextsThatAreToldApart:
    pytestmark = native

    @pytest.mark.parametrize(
        ("ruleset", "event", "other"),
        [
            (rule_set("o.k:a", ("k",)), {"o": {"k": "a"}, "k": "x"}, {"o.k": "a", "k": "y"}),
            (rule_set("not k:x*", ("k",)), {"k": "a"}, {"k": "b"}),
            (rule_set("k.caseless:a*", ("k",)), {"k": "ab"}, {"k": "AC"}),
            (rule_set("k:a* and (k:b or not k:c)", ("o.k",)), {"k": "ab"}, {"k": "abc"}),
            (rule_set("k:a* and k>=a", ("k", "k.caseless")), {"k": "aa"}, {"k": "aB"}),
        ],
        ids=lambda value: value.runnable[0].query if isinstance(value, RuleSet) else "",
    )
    def test_make_no_difference_where_no_part_of_a_query_makes_one(
        self, ruleset: RuleSet, event: dict[str, Any], other: dict[str, Any]
    ) -> None:
        read = reader_of(ruleset).read
        first, second = read(encoded(event)), read(encoded(other))
        assert first is not None
        assert second is not None

        assert first.alike == second.alike
        assert first.texts != second.texts

    @pytest.mark.parametrize(
        "ruleset",
        [
            rule_set("o.n:1", ("ip",)),  # no texts
            rule_set("nest:{k:a}", ("o.n",)),  # within nested objects
            rule_set("o.k*:a", ("o.k",)),  # asked together with others
            rule_set("o:* and o.k:a", ("o.k",)),  # asked as a part of an object
            rule_set("o.n:1", ("o.k",), filters=(NEGATED,)),  # asked by a filter
            rule_set("o.n:1", ("flat",)),  # with more texts below
            rule_set(" or ".join(f"(o.k:{n} and b:true)" for n in range(33)), ("o.k",)),
        ],
        ids=lambda ruleset: ruleset.runnable[0].query[:20],
    )
    def test_are_those_of_fields_that_are_asked_for_by_themselves(self, ruleset: RuleSet) -> None:
        reading = reader_of(ruleset).read(
            b'{"o":{"k":"a"},"nest":[{"k":"a"}],"ip":"::1","flat":"a"}'
        )

        assert reading is not None
        assert not any(reading.texts)

    @pytest.mark.parametrize("query", ["k:x", "k:x and event.id.x:a"])
    def test_nothing_is_remembered_of_what_stands_below_the_id(self, query: str) -> None:
        table = FieldTable.from_mapping({"k": "keyword", "event.id.x": "keyword"})
        new_terms = NewTerms(("event.id.x",), 86_400_000, "now-1d")
        rules = [new_terms_rule(query=query, new_terms=new_terms)]
        reader = reader_of(RuleSet.compile(rules, table)[0])

        for event in ({"event.id.x": "a"}, {"event": {"id.x": "a"}}, {"event": {"id": {"x": 1}}}):
            assert reader.read(encoded({"k": "x", **event})) is None

    def test_make_nothing_fail(self) -> None:
        def part(event: Any, memo: Any = None) -> bool:
            raise ValueError

        reader = Reader(lambda _: (b"", None, None, ("x",)), [TextClasses("k", [part], [])], {})

        assert reader.read(b"{}") is None

    def test_are_short(self) -> None:
        read = reader_of(rule_set("o.n:1", ("k",))).read
        short, long = (read(encoded({"k": "x" * length})) for length in (256, 257))
        assert short is not None
        assert long is not None

        assert short.texts == ("x" * 256,)
        assert long.texts == (None,)
        assert b"x" * 257 in long.alike


class Fake:
    """Reads nothing of an event but the whole."""

    def __init__(self) -> None:
        self.read_bytes: list[int] = []

    def read(self, event: bytes) -> Reading | None:
        self.read_bytes.append(len(event))
        return None if event == b"odd" else Reading(event, None, None, ())

    def apart(self, rule_id: str) -> tuple[ApartTerm, ...]:
        return ()


MATCHED = Outcome(Disposition.MATCHED, matches=(("r", 0),))


def test_a_verdict_is_known_once_it_was_learned() -> None:
    remembered = Verdicts(Fake())
    first = remembered.look(b"a")
    assert first is not None
    assert first.verdict is None

    remembered.learn(first, MATCHED)

    again = remembered.look(b"a")
    assert again is not None
    assert again.verdict is not None
    assert again.verdict.outcome == MATCHED
    assert remembered.look(b"odd") is None
    assert remembered.look(None) is None


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Disposition.SKIPPED),
        Outcome(Disposition.NO_MATCH, documents=2),
        Outcome(Disposition.DEAD_LETTER, error=DecodeError("empty", "")),
        Outcome(Disposition.MATCHED, failures=(RuleFailure("r", "evaluation", "", 0),)),
        Outcome(Disposition.MATCHED, matches=tuple((f"r{n}", 0) for n in range(17))),
    ],
)
def test_what_is_said_of_one_event_alone_or_is_large_is_not_remembered(outcome: Outcome) -> None:
    remembered = Verdicts(Fake())

    alike = remembered.look(b"a")
    assert alike is not None

    remembered.learn(alike, outcome)

    assert len(remembered) == 0


def learned(remembered: Verdicts, *events: bytes) -> None:
    for event in events:
        alike = remembered.look(event)
        assert alike is not None
        remembered.learn(alike, MATCHED)


def known(remembered: Verdicts, *events: bytes) -> list[bool]:
    found = [remembered.look(event) for event in events]
    return [alike is not None and alike.verdict is not None for alike in found]


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_MAX_ENTRIES", 3)
    remembered = Verdicts(Fake())
    learned(remembered, b"a", b"b", b"c", b"a", b"d")

    assert known(remembered, b"a", b"b", b"c", b"d") == [True, False, True, True]
    assert len(remembered) == 3


def test_verdicts_that_say_the_same_share_it_and_different_ones_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdicts, "_MAX_OUTCOMES", 2)
    remembered = Verdicts(Fake())
    learned(remembered, b"a", b"b")
    first, second = (remembered.look(event) for event in (b"a", b"b"))
    assert first is not None and second is not None  # noqa: PT018
    assert first.verdict is not None and second.verdict is not None  # noqa: PT018

    assert first.verdict.outcome is second.verdict.outcome
    for number in range(5):
        alike = remembered.look(b"%d" % number)
        assert alike is not None
        remembered.learn(alike, Outcome(Disposition.MATCHED, matches=(("r", number),)))
    assert len(remembered._outcomes) <= 2


def test_digests_of_two_workers_differ() -> None:
    first, second = (Verdicts(Fake()).look(b"a") for _ in range(2))

    assert first is not None
    assert second is not None
    assert len(first.digest) == 16
    assert first.digest != second.digest


def test_large_events_are_not_looked_up() -> None:
    reader = Fake()
    remembered = Verdicts(reader, max_bytes=100)

    assert remembered.look(b"a" * 101) is None
    assert remembered.look(b"a" * 100) is not None
    assert reader.read_bytes == [100]


def test_where_next_to_nothing_is_known_events_are_not_looked_up_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdicts, "_ROUND", 64)
    monkeypatch.setattr(verdicts, "_REST", 10)
    remembered = Verdicts(Fake())
    learned(remembered, b"a")

    for number in range(63):  # 1 of 16 is known
        assert remembered.look(b"a" if number % 16 == 0 else b"%d" % number) is not None
    for number in range(64):  # 1 of 32
        assert remembered.look(b"a" if number % 32 == 0 else b"%d" % number) is not None

    assert [remembered.look(b"a") for _ in range(10)] == [None] * 10
    assert remembered.look(b"a") is not None


def test_verdicts_with_long_terms_are_not_remembered() -> None:
    ruleset = rule_set("o.n:1", ("o.p.w",))
    remembered = Verdicts(Fake())
    for length in (1024, 1025):
        event = {"o": {"n": 1, "p": {"w": "x" * length}}}
        alike = remembered.look(encoded(event))
        assert alike is not None
        remembered.learn(alike, outcome(ruleset, event))

    assert len(remembered) == 1

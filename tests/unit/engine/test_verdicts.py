"""What the rules can depend on is taken of an event; verdicts are kept within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.engine import verdicts as verdicts_module
from pipeline.engine.alike import TextClasses, native_reader
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.match import Disposition, MatchStage, Outcome, RuleFailure
from pipeline.engine.verdicts import CacheSettings, KnownRun, Verdicts
from pipeline.errors import DecodeError
from pipeline.kql import FieldTable
from pipeline.record import Position, Record
from pipeline.rules.model import ExceptionItem, NewTerms
from pipeline.rules.ruleset import RuleSet
from tests.rules import new_terms_rule
from tests.scans import KINDS
from tests.strategies import TABLE

pytestmark = list(KINDS[1].marks)

NOW_MS = 1_772_438_400_000
TIME = "2026-03-02T08:00:00.000Z"
EXISTS = {"query": {"exists": {"field": "o.p.w"}}}
NEGATED = {"meta": {"negate": True}, "query": {"wildcard": {"o.k": {"value": "x*"}}}}
EXCEPTED = ExceptionItem("x", ("rule",), "o.k:x*")
PATTERNS = " or ".join(f"{number}*{{}}" for number in range(16))
IN_PARTS = {"query": {"match_phrase": {"o": {"k": "x"}}}}


def rule_set(
    query: str, terms: tuple[str, ...] = ("k",), table: FieldTable = TABLE, **more: Any
) -> RuleSet:
    new_terms = NewTerms(terms, 86_400_000, "now-1d")
    ruleset, _ = RuleSet.compile([new_terms_rule(query=query, new_terms=new_terms, **more)], table)
    assert ruleset.runnable
    return ruleset


def parts(count: int, clause: str) -> str:
    """Return a query with so many parts, in each of which a number takes the place of braces."""
    return " or ".join(f"({clause.replace('{}', str(n))} and b:true)" for n in range(count))


def verdicts_of(ruleset: RuleSet, **settings: int) -> Verdicts:
    reader = native_reader(ruleset, DecodeLimits(), match_index=True)
    assert reader is not None
    return Verdicts(ruleset, reader, settings=CacheSettings(**settings))


def texts_set_apart(ruleset: RuleSet, event: bytes) -> tuple[str | None, ...]:
    """Return the texts of an event that are set apart."""
    reader = native_reader(ruleset, DecodeLimits(), match_index=True)
    assert reader is not None
    taken = reader.projection.take(event)
    assert taken is not None
    return taken[3]


def encoded(event: dict[str, Any]) -> bytes:
    return json.dumps({"@timestamp": TIME, **event}).encode()


def outcome(ruleset: RuleSet, event: dict[str, Any]) -> Outcome:
    value = encoded(event)
    record = Record(Position("t", 0, 0), None, value, (), NOW_MS, NOW_MS, NOW_MS)
    return MatchStage(ruleset).process(record)


def said(ruleset: RuleSet, event: dict[str, Any]) -> object:
    found = outcome(ruleset, event)
    return found.disposition, [(each.key, each.match.time_source) for each in found.sightings]


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
        (rule_set("k:a", exceptions=(EXCEPTED,)), {"k": "a"}, {"k": "a", "o": {"k": "xy"}}),
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
    def test_come_from_events_of_which_different_things_are_read(
        self, ruleset: RuleSet, event: dict[str, Any], other: dict[str, Any], swapped: bool
    ) -> None:
        digest = verdicts_of(ruleset).digest
        first, second = (other, event) if swapped else (event, other)

        assert said(ruleset, first) != said(ruleset, second)
        assert digest(encoded(first)) != digest(encoded(second))


class TestNothingIsRead:
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
        read = verdicts_of(rule_set("k:a")).digest

        assert read(b'{"k":"a","k":"b"}') is None
        assert read(b'[{"k":"a"}]') is None
        assert read(b'{"k":"a"}\n{"k":"a"}') is None

    def test_of_an_event_with_another_time_where_a_rule_asks_for_one(self) -> None:
        read = verdicts_of(rule_set("k:a", timestamp_override="event.ingested")).digest

        assert read(b'{"k":"a","event":{"ingested":"x"}}') is None
        assert read(b'{"k":"a","event":{"id":"x"}}') is not None

    @pytest.mark.parametrize("name", ["@timestamp.x", "@timestamp."])
    def test_of_a_time_that_stands_below_the_field(self, name: str) -> None:
        read = verdicts_of(rule_set("k:a")).digest

        assert read(json.dumps({name: TIME, "k": "a"}).encode()) is None

    def test_a_key_with_points_of_its_own_is_left_alone(self) -> None:
        read = verdicts_of(rule_set("o.k:a")).digest

        assert read(b'{"o":{".k":"a"}}') is None
        assert read(b'{"o.":{"k":"a"}}') is None


class TestTextsThatAreToldApart:
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
        digest = verdicts_of(ruleset).digest
        first, second = encoded(event), encoded(other)

        assert digest(first) is not None
        assert digest(first) == digest(second)
        assert texts_set_apart(ruleset, first) != texts_set_apart(ruleset, second)

    @pytest.mark.parametrize(
        "ruleset",
        [
            rule_set("o.n:1", ("ip",)),  # no texts
            rule_set("nest:{k:a}", ("o.n",)),  # within nested objects
            rule_set("o.k*:a", ("o.k",)),  # asked together with others
            rule_set("o:* and o.k:a", ("o.k",)),  # asked as a part of an object
            rule_set("o.n:1", ("o.k",), filters=(NEGATED,)),  # asked by a filter
            rule_set("o.n:1", ("flat",)),  # with more texts below
            rule_set(parts(33, "o.k>={}"), ("o.k",)),  # whose order is asked for too often
            rule_set(parts(33, f"o.k:({PATTERNS})"), ("o.k",)),
            rule_set(parts(257, "o.k:{}"), ("o.k",)),
        ],
        ids=lambda ruleset: ruleset.runnable[0].query[:20],
    )
    def test_are_those_of_fields_that_are_asked_for_by_themselves(self, ruleset: RuleSet) -> None:
        event = b'{"o":{"k":"a"},"nest":[{"k":"a"}],"ip":"::1","flat":"a"}'

        assert not any(texts_set_apart(ruleset, event))

    def test_are_also_those_of_which_many_rules_ask_for_texts(self) -> None:
        ruleset = rule_set(parts(256, "o.k:{}"), ("o.k",))

        assert texts_set_apart(ruleset, b'{"o":{"k":"a"}}') == ("a",)

    def test_are_none_of_fields_with_few_values(self) -> None:
        table = FieldTable.from_mapping({"event.category": "keyword", "k": "keyword"})
        ruleset = rule_set("event.category:library", table=table)

        assert texts_set_apart(ruleset, b'{"event.category":"library","k":"a"}') == ("a",)

    @pytest.mark.parametrize("query", ["k:x", "k:x and event.id.x:a"])
    def test_nothing_is_remembered_of_what_stands_below_the_id(self, query: str) -> None:
        table = FieldTable.from_mapping({"k": "keyword", "event.id.x": "keyword"})
        digest = verdicts_of(rule_set(query, ("event.id.x",), table)).digest

        for event in ({"event.id.x": "a"}, {"event": {"id.x": "a"}}, {"event": {"id": {"x": 1}}}):
            assert digest(encoded({"k": "x", **event})) is None

    def test_make_nothing_fail(self) -> None:
        def part(event: Any, memo: Any = None) -> bool:
            raise ValueError

        ruleset = rule_set("o.n:1", ("k",))
        reader = native_reader(ruleset, DecodeLimits(), match_index=True)
        assert reader is not None
        failing = reader._replace(classes=(TextClasses("k", [part], []),))

        assert Verdicts(ruleset, failing).digest(encoded({"k": "x"})) is None
        assert Verdicts(ruleset, reader).digest(encoded({"k": "x"})) is not None

    def test_are_short(self) -> None:
        ruleset = rule_set("o.n:1", ("k",))
        digest = verdicts_of(ruleset).digest
        short, long, other = ("x" * 256, "x" * 257, "y" * 257)

        assert texts_set_apart(ruleset, encoded({"k": short})) == (short,)
        assert texts_set_apart(ruleset, encoded({"k": long})) == (None,)
        assert digest(encoded({"k": long})) != digest(encoded({"k": other}))

    @pytest.mark.parametrize("settings", [{"texts": 2}, {"text_bytes": 400}])
    def test_are_not_asked_about_twice_as_long_as_there_is_room(
        self, settings: dict[str, int]
    ) -> None:
        asked = []

        def part(event: Any, memo: Any = None) -> bool:
            asked.append(event["k"])
            return False

        ruleset = rule_set("o.n:1", ("k",))
        reader = native_reader(ruleset, DecodeLimits(), match_index=True)
        assert reader is not None
        counting = reader._replace(classes=(TextClasses("k", [part], []),))
        verdicts = Verdicts(ruleset, counting, settings=CacheSettings(**settings))

        for text in ("a", "b", "a", "b", "c", "b", "a"):
            verdicts.digest(encoded({"k": text}))

        assert asked == ["a", "b", "c", "a"]


class Rec:
    """A record as from a batch."""

    def __init__(self, value: bytes | None, offset: int = 0) -> None:
        self.value = value
        self.offset = offset
        self.timestamp = NOW_MS
        self.timestamp_type = 1


RULES = rule_set("o.n >= 0", ("k",))


def numbered(number: int, **more: Any) -> bytes:
    """Return an event that reads like no other one."""
    return encoded({"o": {"n": number}, "k": "a", **more})


def look(verdicts: Verdicts, *values: bytes | None, start: int = 0) -> KnownRun:
    records = [Rec(value, offset) for offset, value in enumerate(values)]
    return verdicts.judge(records, start, "events", 0, NOW_MS)


def learned(verdicts: Verdicts, *events: bytes) -> None:
    for event in events:
        verdicts.remember(event, outcome(RULES, json.loads(event)))


def known(verdicts: Verdicts, *events: bytes) -> list[bool]:
    return [look(verdicts, event).records == 1 for event in events]


def test_a_verdict_is_known_once_it_was_learned() -> None:
    verdicts = verdicts_of(RULES)
    assert look(verdicts, numbered(1)) == KnownRun(0, False, False, [], [], 0, [])

    learned(verdicts, numbered(1))

    found = look(verdicts, numbered(1))
    assert found.records == 1
    assert found.outcomes == [(Outcome(Disposition.MATCHED, matches=(("rule", 0),)), 1)]
    assert len(found.sent) == 1
    assert not look(verdicts, b"odd").next_may_be_known
    assert not look(verdicts, None).next_may_be_known


def test_records_are_judged_up_to_one_that_is_not_known_or_matches_nothing() -> None:
    verdicts = verdicts_of(RULES)
    nothing = encoded({"o": {"n": -1}, "k": "a"})
    learned(verdicts, numbered(1), numbered(2), nothing)
    one, two, new = numbered(1), numbered(2), numbered(3)

    def told(*values: bytes, start: int = 0) -> tuple[int, bool, bool]:
        found = look(verdicts, *values, start=start)
        return found.records, found.next_may_be_known, found.next_matches_nothing

    assert told(one, two, one) == (3, True, False)
    assert told(one, new, one) == (1, False, False)
    assert told(one, new, one, start=1) == (0, False, False)
    assert told(one, new, one, start=2) == (1, True, False)
    assert told(one, two, nothing, one) == (2, True, True)


def test_what_was_sent_of_one_record_covers_those_behind_it() -> None:
    verdicts = verdicts_of(RULES)
    learned(verdicts, numbered(1), numbered(2))

    found = look(verdicts, numbered(1), numbered(2), numbered(1))

    assert (len(found.sent), found.covered, found.ages) == (1, 2, [0.0])
    assert sorted(records for _, records in found.outcomes) == [3]


def test_no_more_than_a_megabyte_is_sent_at_once() -> None:
    verdicts = verdicts_of(RULES)
    values = [numbered(1, note="x" * 60_000, k=f"k{number}") for number in range(40)]
    learned(verdicts, numbered(1))

    found = look(verdicts, *values)

    assert 1 << 20 <= sum(len(value) for _, value in found.sent) < (1 << 20) + 65_536
    assert found.next_may_be_known
    rest = look(verdicts, *values, start=found.records)
    assert found.records + rest.records == 36 or rest.next_may_be_known


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
    verdicts = verdicts_of(RULES)

    verdicts.remember(numbered(1), outcome)

    assert len(verdicts) == 0


def test_what_was_not_used_for_longest_goes_first() -> None:
    verdicts = verdicts_of(RULES, verdicts=3)
    learned(verdicts, *map(numbered, (1, 2, 3)))
    known(verdicts, numbered(1))
    learned(verdicts, numbered(4))

    assert known(verdicts, *map(numbered, (1, 2, 3, 4))) == [True, False, True, True]
    assert len(verdicts) == 3


def test_verdicts_that_say_the_same_share_it_and_different_ones_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdicts_module, "_MAX_OUTCOMES", 2)
    verdicts = verdicts_of(RULES)
    learned(verdicts, numbered(1), numbered(2))

    found = look(verdicts, numbered(1), numbered(2))

    assert len(found.outcomes) == 1
    for number in range(5):
        verdicts.remember(numbered(1), Outcome(Disposition.MATCHED, matches=(("r", number),)))
    assert len(verdicts._outcomes) <= 2


def test_digests_of_two_workers_differ() -> None:
    first, second = (verdicts_of(RULES).digest(numbered(1)) for _ in range(2))

    assert first is not None
    assert len(first) == 16
    assert first != second


def test_large_events_are_not_looked_up() -> None:
    verdicts = verdicts_of(RULES, event_bytes=100)
    fits, large = (numbered(1, note="x" * length) for length in (20, 120))
    learned(verdicts, fits, large)

    assert len(fits) <= 100 < len(large)
    assert known(verdicts, fits, large) == [True, False]


def test_where_next_to_nothing_is_known_events_are_not_looked_up_for_a_while() -> None:
    verdicts = verdicts_of(RULES, round=64, rest=10)
    one = numbered(1)
    learned(verdicts, one)

    def asked(often: int) -> None:
        for number in range(64):
            look(verdicts, one if number % often == 0 else numbered(number + 2))

    asked(16)  # so many of 64 are known
    assert known(verdicts, one)
    asked(64)
    assert known(verdicts, *[one] * 12) == [False] * 9 + [True] * 3


def test_verdicts_with_long_terms_are_not_remembered() -> None:
    ruleset = rule_set("o.n:1", ("o.p.w",))
    verdicts = verdicts_of(ruleset)
    for length in (1022, 1023):
        event = {"o": {"n": 1, "p": {"w": "x" * length}}}
        verdicts.remember(encoded(event), outcome(ruleset, event))

    assert len(verdicts) == 1

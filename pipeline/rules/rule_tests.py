"""Runs the ``[[tests]]`` of a rule through its own matcher and terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import TimestampError
from pipeline.kql import Explanation, explain
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.exceptions import covers
from pipeline.rules.history import is_new
from pipeline.rules.model import RuleTest
from pipeline.rules.schema import shortened
from pipeline.rules.timestamp import effective_time
from pipeline.types import Event, Term

_FIRST_TIME_MS = 1_700_000_000_000
_STEP_MS = 1_000


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of one test of a rule.

    Attributes:
        rule_id: the rule.
        name: the test's name.
        path: the rule's file, or None.
        line: the line of the test in it.
        failures: one text for each event with an unexpected result; empty if the test passed.
    """

    __test__ = False  # keeps pytest from taking this for a test class

    rule_id: str
    name: str
    path: Path | None
    line: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


def run_tests(compiled: CompiledRule) -> list[TestResult]:
    """Run every test of a rule, each with a history of its own.

    Events are judged in order. Their times (`pipeline.rules.timestamp`) and the verdict
    (`pipeline.rules.history.is_new`) are the engine's own. An event without a usable time is dated
    one second after the event before it.
    """
    return [_run(compiled, test) for test in compiled.rule.tests]


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of an event: the word, and the explanation."""

    word: str
    because: str


def _run(compiled: CompiledRule, test: RuleTest) -> TestResult:
    history: dict[tuple[Term, ...], int] = {}
    failures = []
    for number, (event, expected, time_ms) in enumerate(
        zip(test.events, test.expect, _times(compiled, test), strict=True), 1
    ):
        result = _judge(compiled, event, time_ms, history)
        if result.word != expected:
            failures.append(
                f"event {number}: expected {expected}, got {result.word}: {result.because}"
            )
    rule = compiled.rule
    return TestResult(rule.rule_id, test.name, rule.path, test.line, tuple(failures))


def _times(compiled: CompiledRule, test: RuleTest) -> Iterator[int]:
    rule, time_ms = compiled.rule, _FIRST_TIME_MS
    fallback = not rule.timestamp_override_fallback_disabled
    for event in test.events:
        try:
            time_ms = effective_time(event, rule.timestamp_override, fallback=fallback).time_ms
        except TimestampError:  # instead of its record's time; records come in order
            time_ms += _STEP_MS
        yield time_ms


def _judge(
    compiled: CompiledRule, event: Event, time_ms: int, history: dict[tuple[Term, ...], int]
) -> _Result:
    if not compiled.matcher(event):
        return _Result("no_match", _why_not(compiled, event))
    if compiled.rule.new_terms is None:
        return _Result("alert", "the query matches")
    tuples = list(compiled.tuples(event))
    if not tuples:
        return _Result("no_match", f"the query matches, but {_without_terms(compiled, event)}")
    window_ms = compiled.rule.new_terms.history_ms
    new = [terms for terms in tuples if is_new(history.get(terms), time_ms, window_ms)]
    for terms in tuples:
        history[terms] = max(time_ms, history.get(terms, time_ms))
    if new:
        return _Result("alert", f"the query matches and {_listed(new)} is new")
    return _Result("known", f"the query matches and {_listed(tuples)} is known")


def _listed(tuples: list[tuple[Term, ...]]) -> str:
    first = ", ".join(str(term) for term in tuples[0])
    more = f" (and {len(tuples) - 1} more)" if len(tuples) > 1 else ""
    return f"({first}){more}"


def _without_terms(compiled: CompiledRule, event: Event) -> str:
    fields = compiled.rule.new_terms.fields if compiled.rule.new_terms else ()
    if not compiled.terms:
        return "a new-terms field is not mapped"
    missing = [name for name, read in zip(fields, compiled.terms, strict=True) if not read(event)]
    return f"{' and '.join(missing)} has no value"


def _why_not(compiled: CompiledRule, event: Event) -> str:
    """Return the exception that covers the event, or else the clauses of the query that are false.

    They are those that the query joins with ``and``.
    """
    for item in compiled.rule.exceptions:
        if covers(item, event, compiled.fields):
            return f"excepted: {item.name}"
    verdict = explain(compiled.node, compiled.fields, event)
    clauses = verdict.children if verdict.operator == "and" else (verdict,)
    false = [_described(clause) for clause in clauses if not clause.matches]
    return f"not true: {'; '.join(false)}" if false else "a filter excludes it"


def _described(clause: Explanation) -> str:
    query = shortened(clause.query)
    if clause.operator != "clause":
        return query
    if clause.note is not None:
        return f"{query} ({clause.note})"
    held = ", ".join(repr(value) for value in clause.values)
    return f"{query} (the event has {shortened(held) or 'no value'})"

"""Files that say what was seen before firstseen ran: four formats, read to the same records.

``firstseen``
    What `firstseen history export` writes.
``alerts``
    Alerts of Kibana's new_terms rules, one JSON document per line: the documents of an
    ``.alerts-security.alerts-*`` index, hits with ``_source``, or whole ``_search`` responses.
    ``kibana.alert.rule.rule_id`` names the rule, ``kibana.alert.new_terms`` holds the tuple, and
    ``kibana.alert.original_time`` the time.
``aggregation``
    Elasticsearch's responses to a composite, terms or multi_terms aggregation over the rule's
    query, with the sub-aggregations ``first_seen`` (min) and ``last_seen`` (max) of the timestamp.
``events``
    Events, which the rules judge as in a replay; every match counts as seen.

A history holds terms *as indexed* (a keyword's text, an address in canonical form, a number by
value). Terms in alerts and aggregations are printed values. They are read through the rule's own
field types, so that they mean the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.assembly.match_stage import match_stage
from pipeline.config import Settings
from pipeline.engine.decode import DecodeLimits
from pipeline.engine.identity import portable
from pipeline.engine.paths import scalars_at
from pipeline.engine.prefilter import Prefilter
from pipeline.engine.wire import MAX_COUNT, Learn
from pipeline.errors import DecodeError, EventsFileError
from pipeline.history.rows import HistoryRow, decode_history_row
from pipeline.replay.events import EventLine, record_of_line
from pipeline.rules import CompiledRule, RuleSet
from pipeline.rules.timestamp import MAX_MS, parse_timestamp
from pipeline.types import Term

FORMATS: Final = ("firstseen", "alerts", "aggregation", "events")
MAX_GATHERED: Final = 100_000
"""Term tuples gathered in memory before they are passed on."""

_MAX_ROW_BYTES: Final = DecodeLimits().max_bytes


@dataclass(slots=True)
class ImportCounts:
    """What was read, and what could not be used.

    Attributes:
        read: lines, documents or buckets.
        skipped: those from which nothing was learned, by reason.
        learned: term tuples passed on, by rule id.
        unused: those of them that belong to a history that no rule has now, by rule id.
    """

    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    learned: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return the counts as plain data, fit for JSON."""
        return {
            "read": self.read,
            "learned": self.learned.total(),
            "rules": dict(sorted(self.learned.items())),
            "unused": dict(sorted(self.unused.items())),
            "skipped": dict(sorted(self.skipped.items())),
        }


class ImportReader:
    """Turns the lines of a file into `Learn` records.

    Args:
        ruleset: the rules that can learn.
        settings: how events are judged.
        now_ms: the wall clock; no time may be later.
        rule_id: only this rule learns. Required for an aggregation, which does not name its rule.
        into_current: put the rows of a history that the rule no longer has (because its query has
            changed) into the one that it has now.

    Attributes:
        counts: what was counted so far.
    """

    def __init__(
        self,
        ruleset: RuleSet,
        settings: Settings,
        *,
        now_ms: int,
        rule_id: str | None = None,
        into_current: bool = False,
    ) -> None:
        self.counts = ImportCounts()
        self._ruleset = ruleset
        self._settings = settings
        self._now_ms = now_ms
        self._rule_id = rule_id
        self._into_current = into_current

    def read(self, kind: str, lines: Iterable[EventLine]) -> Iterator[Learn]:
        """Yield what is learned, each term tuple once if memory allows.

        Args:
            kind: one of `FORMATS`.
            lines: the lines of the files.

        Raises:
            EventsFileError: the file has a different format altogether.
        """
        readers: dict[str, Callable[[Iterable[EventLine]], Iterator[Learn]]] = {
            "firstseen": self._rows,
            "alerts": self._alerts,
            "aggregation": self._buckets,
            "events": self._events,
        }
        gathered: dict[bytes, Learn] = {}
        for learned in readers[kind](lines):
            if self._rule_id not in {None, learned.rule_id}:
                self.counts.skipped["another_rule"] += 1
                continue
            key = learned.key()
            gathered[key] = merge(gathered.get(key), self._bounded(learned))
            if len(gathered) >= MAX_GATHERED:
                yield from self._pass_on(gathered)
        yield from self._pass_on(gathered)

    def _pass_on(self, gathered: dict[bytes, Learn]) -> Iterator[Learn]:
        for learned in gathered.values():
            rule_id = learned.rule_id
            compiled = self._new_terms_rule(rule_id)
            self.counts.learned[rule_id] += 1
            if compiled is None or compiled.history_id != learned.history:
                self.counts.unused[rule_id] += 1
            yield learned
        gathered.clear()

    def _bounded(self, learned: Learn) -> Learn:
        """Return the record without times after now: a term must not be known in the future."""
        if learned.last_ms <= self._now_ms:
            return learned
        first_ms = min(learned.first_ms, self._now_ms)
        return _timed(learned, first_ms, self._now_ms, learned.count)

    # -- what firstseen exported

    def _rows(self, lines: Iterable[EventLine]) -> Iterator[Learn]:
        for line in _filled(lines):
            self.counts.read += 1
            if len(line.value) > _MAX_ROW_BYTES:
                self.counts.skipped["too_large"] += 1
                continue
            try:
                row = decode_history_row(line.value)
                learned = row.to_learn()
            except (ValueError, DecodeError):
                self.counts.skipped["invalid_row"] += 1
            else:
                yield from self._current(row, learned) if self._into_current else (learned,)

    def _current(self, row: HistoryRow, learned: Learn) -> Iterator[Learn]:
        compiled = self._new_terms_rule(row.rule_id)
        if compiled is None:
            self.counts.skipped["unknown_rule"] += 1
        elif row.history == compiled.history_id:
            yield learned
        elif row.row:
            self.counts.skipped["cut_term"] += 1
        elif len(row.terms) != len(compiled.terms):
            self.counts.skipped["other_fields"] += 1
        else:
            yield _learn(compiled, row.terms, learned.first_ms, learned.last_ms, row.count)

    # -- Kibana's alerts

    def _alerts(self, lines: Iterable[EventLine]) -> Iterator[Learn]:
        for line in _filled(lines):
            for alert in _documents(_json(line)):
                self.counts.read += 1
                learned = self._alert(alert)
                if isinstance(learned, str):
                    self.counts.skipped[learned] += 1
                else:
                    yield learned

    def _alert(self, alert: dict[str, Any]) -> Learn | str:
        """Return what can be learned from an alert, or the reason why nothing can."""
        ids = scalars_at(alert, "kibana.alert.rule.rule_id")
        compiled = self._new_terms_rule(str(ids[0])) if ids else None
        times = scalars_at(alert, "kibana.alert.original_time")
        time_ms = parse_timestamp(times[0]) if times else None
        values = scalars_at(alert, "kibana.alert.new_terms")
        if not ids or not values:
            return "not_a_new_terms_alert"
        if compiled is None:
            return "unknown_rule"
        if time_ms is None:
            return "no_time"
        terms = _terms(compiled, values)
        if terms is None:
            return "other_fields"
        return _learn(compiled, terms, time_ms, time_ms, 1)

    # -- Elasticsearch's aggregations

    def _buckets(self, lines: Iterable[EventLine]) -> Iterator[Learn]:
        compiled = self._new_terms_rule(self._rule_id or "")
        if compiled is None:
            raise EventsFileError(f"there is no new_terms rule {self._rule_id!r} among the rules")
        for response in _responses(lines):
            for bucket in _buckets(response):
                self.counts.read += 1
                learned = _bucket(compiled, bucket)
                if isinstance(learned, str):
                    self.counts.skipped[learned] += 1
                else:
                    yield learned

    # -- events

    def _events(self, lines: Iterable[EventLine]) -> Iterator[Learn]:
        # Without the others, whose matches are alerts and teach nothing.
        learning = RuleSet(compiled for compiled in self._ruleset.runnable if compiled.terms)
        stage = match_stage(self._settings, learning, Prefilter.from_ruleset(learning))
        for line in _filled(lines):
            record = record_of_line(line, self.counts.read, min(self._now_ms, MAX_MS))
            outcome = stage.process(record)
            self.counts.read += 1
            if outcome.error is not None:
                self.counts.skipped[outcome.error.reason] += 1
            elif not outcome.observations and not outcome.failures:
                self.counts.skipped["no_match"] += 1
            for failure in outcome.failures:
                self.counts.skipped[failure.code] += 1
            for observation in outcome.observations:
                yield Learn(
                    rule_id=observation.rule.id,
                    history=observation.history,
                    window_ms=observation.window_ms,
                    terms=observation.terms,
                    first_ms=observation.time_ms,
                    last_ms=observation.time_ms,
                )

    def _new_terms_rule(self, rule_id: str) -> CompiledRule | None:
        compiled = self._ruleset.get(rule_id)
        return compiled if compiled is not None and compiled.terms else None


def _filled(lines: Iterable[EventLine]) -> Iterator[EventLine]:
    return (line for line in lines if line.value and not line.value.isspace())


def _json(line: EventLine) -> Any:
    try:
        return orjson.loads(line.value)
    except orjson.JSONDecodeError as error:
        raise EventsFileError(f"{line.path}:{line.line}: this is not JSON: {error}") from error


def _documents(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the documents of a line: a single one, a hit, or the hits of a response."""
    if not isinstance(value, dict):
        return
    hits = value.get("hits")
    if isinstance(hits, dict) and isinstance(hits.get("hits"), list):
        for hit in hits["hits"]:
            yield from _documents(hit)
    elif isinstance(value.get("_source"), dict):
        yield value["_source"]
    else:
        yield value


def _responses(lines: Iterable[EventLine]) -> Iterator[dict[str, Any]]:
    """Yield responses: one per line, or one over all the lines of a file, as people save them."""
    files: dict[str, list[EventLine]] = {}
    for line in _filled(lines):
        files.setdefault(line.path, []).append(line)
    for path, filled in files.items():
        try:
            found = [orjson.loads(b"\n".join(line.value for line in filled))]
        except orjson.JSONDecodeError:
            found = [_json(line) for line in filled]
        for answer in found:
            if not isinstance(answer, dict) or not isinstance(answer.get("aggregations"), dict):
                raise EventsFileError(f"{path}: an answer with `aggregations` is expected")
            yield answer


def _buckets(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for aggregation in answer["aggregations"].values():
        buckets = aggregation.get("buckets") if isinstance(aggregation, dict) else None
        for bucket in buckets if isinstance(buckets, list) else ():
            if isinstance(bucket, dict):
                yield bucket


def _bucket(compiled: CompiledRule, bucket: dict[str, Any]) -> Learn | str:
    """Return what can be learned from a bucket, or the reason why nothing can."""
    first_ms, last_ms = (_value_ms(bucket.get(name)) for name in ("first_seen", "last_seen"))
    if last_ms is None:
        return "no_time"
    key = bucket.get("key")
    if isinstance(key, dict):  # composite: its sources are named after the fields
        values = [key.get(name) for name in _fields(compiled)]
    else:
        values = list(key) if isinstance(key, list) else [key]
    terms = _terms(compiled, values)
    if terms is None:
        return "other_fields"
    count = bucket.get("doc_count")
    return _learn(
        compiled,
        terms,
        last_ms if first_ms is None else first_ms,
        last_ms,
        min(count, MAX_COUNT) if type(count) is int and count > 0 else 1,
    )


def _value_ms(metric: Any) -> int | None:
    return parse_timestamp(metric.get("value")) if isinstance(metric, dict) else None


def _fields(compiled: CompiledRule) -> tuple[str, ...]:
    return compiled.rule.new_terms.fields if compiled.rule.new_terms else ()


def _terms(compiled: CompiledRule, values: list[Any]) -> tuple[Term, ...] | None:
    """Return printed values as terms of the rule's fields; None if they do not fit the fields."""
    fields = _fields(compiled)
    if len(values) != len(fields):
        return None
    terms: list[Term] = []
    for name, value, reader in zip(fields, values, compiled.terms, strict=True):
        # A multi-field (process.name.caseless) has no value of its own: it reads its parent's.
        found = reader({name: value}) or reader({name.rpartition(".")[0]: value})
        if len(found) != 1:
            return None
        terms.append(portable(found[0]))
    return tuple(terms)


def _learn(
    compiled: CompiledRule, terms: tuple[Term, ...], first_ms: int, last_ms: int, count: int
) -> Learn:
    return Learn(
        rule_id=compiled.rule.rule_id,
        history=compiled.history_id,
        window_ms=compiled.rule.new_terms.history_ms if compiled.rule.new_terms else 0,
        terms=terms,
        first_ms=min(first_ms, last_ms),
        last_ms=last_ms,
        count=count,
    )


def merge(known: Learn | None, learned: Learn) -> Learn:
    """Merge two records of the same term tuple."""
    if known is None:
        return learned
    return _timed(
        known,
        min(known.first_ms, learned.first_ms),
        max(known.last_ms, learned.last_ms),
        min(known.count + learned.count, MAX_COUNT),
    )


def _timed(learned: Learn, first_ms: int, last_ms: int, count: int) -> Learn:
    return Learn(
        rule_id=learned.rule_id,
        history=learned.history,
        window_ms=learned.window_ms,
        terms=learned.terms,
        first_ms=first_ms,
        last_ms=last_ms,
        count=count,
        row=learned.row,
    )

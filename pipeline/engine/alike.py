"""What rules can depend on of an event, taken without decoding it.

Events that read alike to all rules of a set get the same verdicts (`pipeline.engine.verdicts`). But
many fields hold texts that few events share, and the rules ask little of them: that a program is
none below `Program Files`. So the text of such a field is told apart, and what counts is what each
part of the queries says of it that asks for this field alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import msgspec

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.index import DATA_STREAM_FIELDS
from pipeline.engine.seen import EVENT_ID
from pipeline.engine.timestamp import TIMESTAMP
from pipeline.kql import FieldTable, FieldType, Memo, MemoMatcher, compile_node
from pipeline.kql.nodes import Node
from pipeline.kql.values import ValueType
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.reads import parts_by_field, paths_read
from pipeline.rules.ruleset import RuleSet
from pipeline.types import Event, Term

Take: TypeAlias = Callable[
    [bytes], tuple[bytes, str | None, str | None, tuple[str | None, ...]] | None
]
"""What is taken of an event, its time, its id, and the texts told apart: see `firstseen-native`."""

_TEXT_TYPES: Final = frozenset({"keyword", "wildcard", "constant_keyword"})
"""Types of fields whose values are texts, each at the field's own path."""

_MOST_PARTS: Final = 32
"""A field that more parts of queries ask is not told apart: all would be asked of each text."""

_REMEMBERED: Final = 98_304
_REMEMBERED_OF_A_FIELD: Final = 16_384
"""So many texts of all fields, and of each, are kept with what the rules say of them; none has more
than 256 bytes, since longer ones are not told apart."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What was read of an event.

    Attributes:
        alike: the same for all events that the rules cannot tell apart, but for the terms in
            `texts`, their times and their ids.
        time: the text of ``@timestamp``, the only time field that it has; None if it has none.
        event_id: the text of ``event.id``, if it has one.
        texts: by field that is told apart, the one text it holds; None if it holds anything else.
    """

    alike: bytes
    time: str | None
    event_id: str | None
    texts: tuple[str | None, ...]


class ApartTerm(NamedTuple):
    """A term that is told apart.

    Attributes:
        place: which term of the tuple.
        text: which of the `Reading.texts`.
        term: returns the term that a text is indexed as.
    """

    place: int
    text: int
    term: Callable[[str], Term | None]


class Reader:
    """Reads of events what the rules of a set can depend on.

    Args:
        take: takes it.
        classes: by field that is told apart, what says which texts are the same to all rules.
        terms: by rule, its terms that are told apart.
    """

    def __init__(
        self,
        take: Take,
        classes: Sequence[TextClasses],
        terms: Mapping[str, tuple[ApartTerm, ...]],
    ) -> None:
        self._take = take
        size = min(_REMEMBERED_OF_A_FIELD, _REMEMBERED // max(1, len(classes)))
        self._classes = tuple(lru_cache(maxsize=size)(each.of) for each in classes)
        self._terms = terms

    def read(self, event: bytes) -> Reading | None:
        """Read an event; None if it is written in an unusual way."""
        taken = self._take(event)
        if taken is None:
            return None
        alike, time, event_id, texts = taken
        try:
            classes = [class_of(text) for class_of, text in zip(self._classes, texts, strict=True)]
        except Exception:  # noqa: BLE001  (the match stage tells which rule it is, and goes on)
            return None
        return Reading(b"".join((alike, *classes)), time, event_id, texts)

    def apart(self, rule_id: str) -> tuple[ApartTerm, ...]:
        """Return the terms of a rule that are told apart, in an event that has texts for them."""
        return self._terms.get(rule_id, ())


class TextClasses:
    """Says which texts of a field are the same to all rules.

    Args:
        path: the field's.
        parts: the parts of the queries that ask this field alone.
        terms: what returns the term that a text is indexed as, in each of the ways it is.
    """

    def __init__(
        self,
        path: str,
        parts: Sequence[MemoMatcher],
        terms: Sequence[Callable[[str], Term | None]],
    ) -> None:
        *self._above, self._name = path.split(".")
        self._above.reverse()
        self._parts = tuple(parts)
        self._terms = tuple(terms)
        self._bytes = (len(parts) + len(terms)) // 8 + 1
        self._no_text = bytes(self._bytes + 1)

    def of(self, text: str | None) -> bytes:
        """Return the class of a text; of one length, and another one where there is no text."""
        if text is None:
            return self._no_text
        event: Event = {self._name: text}
        for name in self._above:
            event = {name: event}
        answers, memo = 1, Memo()
        for part in self._parts:
            answers = 2 * answers + part(event, memo)
        for term in self._terms:
            answers = 2 * answers + (term(text) is None)
        return b"\x01" + answers.to_bytes(self._bytes, "big")


def native_reader(ruleset: RuleSet, limits: DecodeLimits, *, match_index: bool) -> Reader | None:
    """Return what reads of events what the rules of a set can depend on.

    Args:
        ruleset: the rules.
        limits: what the decoder would refuse.
        match_index: whether a rule's index patterns are asked.

    Returns:
        None where that is not known: a rule reads more than known fields, or a time in a way of its
        own. See `pipeline.rules.reads`.

    Raises:
        ModuleNotFoundError: `firstseen-native` is not installed.
    """
    fields: set[str] = set(DATA_STREAM_FIELDS if match_index else ())
    unexpected: set[str] = set()
    for compiled in ruleset.runnable:
        rule, paths = compiled.rule, paths_read(compiled)
        override = rule.timestamp_override
        if paths is None or (override and rule.timestamp_override_fallback_disabled):
            return None
        fields |= paths
        if override and override != TIMESTAMP:
            unexpected.add(override)
    # A path with no end of points would need a way of its own, and no field has one.
    if any(not all(path.split(".")) for path in fields | unexpected):
        return None
    others = {TIMESTAMP, EVENT_ID, *unexpected, *DATA_STREAM_FIELDS}
    apart = _told_apart(ruleset.runnable, others)
    import firstseen_native  # noqa: PLC0415 - it need not be installed

    take = firstseen_native.Projection(
        sorted(fields - apart.keys()),
        list(apart),
        TIMESTAMP,
        EVENT_ID,
        sorted(unexpected),
        limits.max_depth,
        limits.max_values,
    ).take
    numbers = {path: number for number, path in enumerate(apart)}
    terms = {each.rule.rule_id: _apart_terms(each, numbers) for each in ruleset.runnable}
    return Reader(take, tuple(apart.values()), terms)


def _told_apart(rules: Sequence[CompiledRule], others: set[str]) -> dict[str, TextClasses]:
    """Return the fields that are told apart: of which rules ask nothing but their texts."""
    parts: defaultdict[str, list[tuple[Node, FieldTable]]] = defaultdict(list)
    terms: defaultdict[str, list[ValueType]] = defaultdict(list)
    entangled = set(others)
    for compiled in rules:
        asked = parts_by_field(compiled)
        entangled |= asked.others
        for path, nodes in asked.own.items():
            parts[path] += [(node, compiled.fields) for node in nodes]
            found = compiled.fields.get(path)
            if found is None or found.type not in _TEXT_TYPES:
                entangled.add(path)
        for field in _term_fields(compiled):
            terms[field.source].append(field.values)
            if field.type not in _TEXT_TYPES:
                entangled.add(field.source)
    read = parts.keys() | terms.keys() | entangled
    return {
        path: TextClasses(
            path,
            [compile_node(node, table) for node, table in parts[path]],
            [each.term for each in dict.fromkeys(terms[path])],
        )
        for path in sorted(parts.keys() | terms.keys())
        if path not in entangled
        and len(parts[path]) <= _MOST_PARTS
        and not any(_is_below(path, other) or _is_below(other, path) for other in read)
    }


def _apart_terms(compiled: CompiledRule, numbers: Mapping[str, int]) -> tuple[ApartTerm, ...]:
    return tuple(
        ApartTerm(place, numbers[field.source], field.values.term)
        for place, field in enumerate(_term_fields(compiled))
        if field.source in numbers
    )


def _term_fields(compiled: CompiledRule) -> Iterable[FieldType]:
    names = () if compiled.rule.new_terms is None else compiled.rule.new_terms.fields
    found = (compiled.fields.get(name) for name in names)
    return (field for field in found if field is not None)


def _is_below(path: str, other: str) -> bool:
    return path.startswith(f"{other}.")

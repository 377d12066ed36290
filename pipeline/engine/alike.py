"""Extracts everything from an event that rules can depend on, without decoding the event.

Events that are alike to all rules of a set get the same verdicts (`pipeline.engine.verdicts`). But
many fields hold texts that few events share, and the rules test little about them: for example,
that a program is not below `Program Files`. So the text of such a field is set *apart*. Instead of
the text, what counts is its *class*: how the text answers each part of a query that reads only this
field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from pipeline.engine.decode import DecodeLimits
from pipeline.engine.identity import canonical_term
from pipeline.engine.index import DATA_STREAM_FIELDS
from pipeline.engine.sighting import EVENT_ID
from pipeline.engine.wire import encode_term
from pipeline.kql import (
    FieldTable,
    FieldType,
    Memo,
    MemoMatcher,
    TextTest,
    compile_node,
    max_steps,
    text_test,
)
from pipeline.kql.nodes import Node
from pipeline.kql.values import KeywordType, ValueType
from pipeline.rules.compiled import CompiledRule
from pipeline.rules.reads import parts_by_field, paths_read
from pipeline.rules.ruleset import RuleSet
from pipeline.rules.timestamp import TIMESTAMP
from pipeline.types import Event, Term

if TYPE_CHECKING:
    from firstseen_native import Projection
    from firstseen_native import TextClasses as NativeTextClasses

Spelled: TypeAlias = tuple[bytes, bytes]
"""A value in two encodings: as it is hashed, and as it is sent."""

_TEXT_TYPES: Final = frozenset({"keyword", "wildcard", "constant_keyword"})
"""Types of fields whose values are texts, each at the field's own path."""

_OF_FEW_VALUES: Final = frozenset(
    {
        "event.action",
        "event.category",
        "event.dataset",
        "event.kind",
        "event.module",
        "event.outcome",
        "event.provider",
        "event.type",
        "host.os.type",
    }
)
"""Fields with few distinct values across all events: setting them apart would gain nothing."""

_MOST_PARTS: Final = 32
"""A field that is read by more parts of queries is not set apart, because each text would have to
be tested against all of them."""

_MOST_TESTS: Final = 256
"""Like `_MOST_PARTS`, for a field whose tests native code can answer for most texts."""

_MOST_STEPS: Final = 512
"""The maximum number of look-ups and patterns in all those tests: they are tried one by one."""


class ApartTerm(NamedTuple):
    """A term whose field is set apart.

    Attributes:
        term: the number of the term in the tuple.
        field: the number of its field among those that are set apart.
        value_type: the number of the type that the text is indexed as, see `TextClasses`.
    """

    term: int
    field: int
    value_type: int


class Reader(NamedTuple):
    """How events are read.

    Attributes:
        projection: extracts from an event what rules can depend on.
        classes: for each field that is set apart, the classes of its texts.
        apart: for each rule id, the rule's terms that are set apart.
    """

    projection: Projection
    classes: tuple[TextClasses, ...]
    apart: Mapping[str, tuple[ApartTerm, ...]]


class TextClasses:
    """Assigns each text of a field to a class; all rules treat the texts of a class alike.

    Attributes:
        absent: the class of an event without a text, which no text belongs to.
        value_types: as passed in.
        native: the native implementation, which knows the class of most texts; None if there cannot
            be one.

    Args:
        path: the path of the field.
        parts: the parts of the queries that read only this field.
        value_types: the types that a text is indexed as.
        tests: what those parts test, if that is known.
    """

    def __init__(
        self,
        path: str,
        parts: Sequence[MemoMatcher],
        value_types: Sequence[ValueType],
        tests: Sequence[TextTest] | None = None,
    ) -> None:
        *self._above, self._name = path.split(".")
        self._above.reverse()
        self._parts = tuple(parts)
        self.value_types = tuple(value_types)
        self._bytes = (len(parts) + len(value_types)) // 8 + 1
        self.absent = bytes(self._bytes + 1)
        self.native = None if tests is None else _native_classes(tests, value_types)

    def of(self, text: str) -> tuple[bytes, list[Spelled | None]]:
        """Return the class of a text (always the same length) and the terms it is indexed as."""
        event: Event = {self._name: text}
        for name in self._above:
            event = {name: event}
        answers, memo = 1, Memo()
        for part in self._parts:
            answers = 2 * answers + part(event, memo)
        terms = [each.term(text) for each in self.value_types]
        for term in terms:
            answers = 2 * answers + (term is None)
        spelled_terms = [None if term is None else spelled(term) for term in terms]
        return b"\x01" + answers.to_bytes(self._bytes, "big"), spelled_terms


def _native_classes(
    tests: Sequence[TextTest], value_types: Sequence[ValueType]
) -> NativeTextClasses | None:
    indexed = [
        (each.caseless, each.ignore_above) for each in value_types if isinstance(each, KeywordType)
    ]
    if len(indexed) < len(value_types):
        return None
    import firstseen_native  # noqa: PLC0415 - it need not be installed

    return firstseen_native.TextClasses(tests, indexed)


def spelled(term: Term) -> Spelled:
    """Return a term as it is hashed and as it is sent."""
    return canonical_term(term), encode_term(term)


def native_reader(ruleset: RuleSet, limits: DecodeLimits, *, match_index: bool) -> Reader | None:
    """Return a reader that extracts from events what the rules of a set can depend on.

    Args:
        ruleset: the rules.
        limits: what the decoder refuses.
        match_index: whether the rules' index patterns are applied.

    Returns:
        None if it is not known what the rules depend on: a rule does not name the fields that it
            reads, or reads its time in an unusual way. See `pipeline.rules.reads`.

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
    # A path with an empty part (``a..b``) would need special treatment, and no real field has one.
    if any(not all(path.split(".")) for path in fields | unexpected):
        return None
    excluded = {TIMESTAMP, EVENT_ID, *unexpected, *DATA_STREAM_FIELDS, *_OF_FEW_VALUES}
    apart = _set_apart(ruleset.runnable, excluded)
    import firstseen_native  # noqa: PLC0415 - it need not be installed

    projection = firstseen_native.Projection(
        sorted(fields - apart.keys()),
        list(apart),
        TIMESTAMP,
        EVENT_ID,
        sorted(unexpected),
        limits.max_depth,
        limits.max_values,
    )
    fields_apart = {path: number for number, path in enumerate(apart)}
    terms = {
        compiled.rule.rule_id: tuple(
            ApartTerm(
                number,
                fields_apart[field.source],
                apart[field.source].value_types.index(field.value_type),
            )
            for number, field in enumerate(_term_fields(compiled))
            if field.source in fields_apart
        )
        for compiled in ruleset.runnable
    }
    return Reader(projection, tuple(apart.values()), terms)


def _set_apart(rules: Sequence[CompiledRule], excluded: set[str]) -> dict[str, TextClasses]:
    """Return the fields that are set apart: rules read nothing of them but their texts."""
    parts: defaultdict[str, list[tuple[Node, FieldTable]]] = defaultdict(list)
    terms: defaultdict[str, list[ValueType]] = defaultdict(list)
    entangled = set(excluded)
    for compiled in rules:
        by_field = parts_by_field(compiled)
        entangled |= by_field.others
        for path, nodes in by_field.own.items():
            parts[path] += [(node, compiled.fields) for node in nodes]
            found = compiled.fields.get(path)
            if found is None or found.type not in _TEXT_TYPES:
                entangled.add(path)
        for field in _term_fields(compiled):
            terms[field.source].append(field.value_type)
            if field.type not in _TEXT_TYPES:
                entangled.add(field.source)
    read = parts.keys() | terms.keys() | entangled
    apart: dict[str, TextClasses] = {}
    for path in sorted(parts.keys() | terms.keys()):
        if path in entangled or any(_is_below(path, o) or _is_below(o, path) for o in read):
            continue
        tests = _tests(parts[path])
        if len(parts[path]) <= (_MOST_PARTS if tests is None else _MOST_TESTS):
            matchers = [compile_node(node, table) for node, table in parts[path]]
            apart[path] = TextClasses(path, matchers, list(dict.fromkeys(terms[path])), tests)
    return apart


def _tests(parts: Sequence[tuple[Node, FieldTable]]) -> list[TextTest] | None:
    """Return what parts of queries test about a text; None if that is unknown or too slow."""
    tests = [text_test(node, table) for node, table in parts]
    known = [test for test in tests if test is not None]
    if len(known) < len(tests) or sum(map(max_steps, known)) > _MOST_STEPS:
        return None
    return known


def _term_fields(compiled: CompiledRule) -> Iterable[FieldType]:
    names = () if compiled.rule.new_terms is None else compiled.rule.new_terms.fields
    found = (compiled.fields.get(name) for name in names)
    return (field for field in found if field is not None)


def _is_below(path: str, other: str) -> bool:
    return path.startswith(f"{other}.")

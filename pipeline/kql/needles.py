r"""Needles: the texts that a matching event cannot do without.

What a query demands is told in clauses: of each clause at least one needle stands in the event. An
event that leaves one clause unanswered cannot match, and that can be seen in its raw JSON without
decoding it (`pipeline.engine.prefilter`). Needles are printable ASCII without a slash: texts that
JSON writers spell in one way, but for escapes of the form ``\u00XX``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.kql.clauses import any_of, best, clauses_of
from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.free_text import pattern_parts
from pipeline.kql.nodes import Boolean, Is, Node, Text, Wildcard, literal_text
from pipeline.kql.values import KeywordType, TextType
from pipeline.kql.values.folding import words

SHORTEST = 4
"""Shorter needles, quotes included, are found in every event."""

COMMON_WORDS = frozenset(
    {
        *("windows", "linux", "macos", "process", "library", "file", "network", "registry"),
        *("driver", "start", "info", "change", "creation", "endpoint", "event", "events", "host"),
        *("user", "microsoft", "system32", "true", "false", "success", "failure", "unknown"),
        *("trusted", "microsoft windows", "microsoft corporation", "users", "program files"),
    }
)
"""What stands in most endpoint events, as a value or a field's name: it tells them not apart."""

_RUN = re.compile(r"[ -.0-~]+")
_BOOLEANS = ("true", "false")
# What a JSON number may look like once it is a text, and what a part of one may.
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
_NUMERIC = re.compile(r"[0-9.eE+-]*")
# An integer that is neither written with a fraction nor beyond 64 bits has one spelling.
_INTEGER = re.compile(r"[1-9][0-9]{,14}")


@dataclass(frozen=True, slots=True, order=True)
class Needle:
    """A text that some value of a matching event holds.

    Attributes:
        text: printable ASCII without a slash; lower case if `caseless`.
        caseless: the value holds it in any case, as `pipeline.kql.values.folding.lower` has it.
        starts: the value is a string that begins with it.
        ends: the value is a string that ends with it.
    """

    text: str
    caseless: bool = False
    starts: bool = False
    ends: bool = False

    @property
    def size(self) -> int:
        """How many characters are known, quotes included."""
        return len(self.text) + self.starts + self.ends


Clause: TypeAlias = frozenset[Needle]
"""Needles of which a matching event holds at least one."""


def required_clauses(node: Node, table: FieldTable) -> tuple[Clause, ...]:
    """What a matching event must hold, the most telling clause first; empty if nothing is known.

    Negations, numbers with a fraction, booleans, dates, addresses and free text give nothing.
    """

    def leaf(node: Is, nested: str | None) -> tuple[Clause, ...]:
        if not isinstance(node.field, str):
            return ()
        found = table.get(node.field if nested is None else f"{nested}.{node.field}")
        return () if found is None else _of_value(node, found)

    return clauses_of(node, leaf, _rank)


def _rank(clause: Clause) -> tuple[int, int, int]:
    """The order of usefulness: nothing that most events hold, then the longer the rarer."""
    common = any(needle.text.lower() in COMMON_WORDS for needle in clause)
    return common, -min(needle.size for needle in clause), len(clause)


def _of_value(node: Is, found: FieldType) -> tuple[Clause, ...]:
    if found.is_container:
        return ()
    values, value = found.values, node.value
    if isinstance(values, KeywordType) and isinstance(value, Text | Boolean):
        return _one(_of_whole(literal_text(value), values))
    if isinstance(values, KeywordType) and isinstance(value, Wildcard):
        if found.type == "keyword":
            return _of_pattern(value.parts, values)
        return any_of((_of_pattern(part, values) for part in pattern_parts(value)), _rank)
    if isinstance(values, TextType) and isinstance(value, Text):
        return _of_words(words(value.value), phrase=value.quoted)
    return ()


def _one(needle: Needle | None) -> tuple[Clause, ...]:
    return () if needle is None else (frozenset({needle}),)


def _of_whole(text: str, values: KeywordType) -> Needle | None:
    """The best needle of a whole value."""
    text = values.normal(text)
    if text in _BOOLEANS:  # which may stand without quotes
        return Needle(text, values.caseless)
    if _NUMBER.fullmatch(text):
        usable = len(text) >= SHORTEST and _INTEGER.fullmatch(text)
        return Needle(text, values.caseless) if usable else None
    return _longest(
        Needle(
            run.group(),
            values.caseless,
            starts=run.start() == 0,
            ends=run.end() == len(text),
        )
        for run in _RUN.finditer(text)
    )


def _of_pattern(parts: tuple[str, ...], values: KeywordType) -> tuple[Clause, ...]:
    """A clause for each text between the stars of a pattern."""
    if len(parts) == 1:
        return _one(_of_whole(parts[0], values))
    found = [
        _of_part(values.normal(part), values, first=number == 0, last=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    return best((frozenset({needle}) for needle in found if needle is not None), _rank)


def _of_part(text: str, values: KeywordType, *, first: bool, last: bool) -> Needle | None:
    # `t*` takes in the value true, which has no quotes.
    first = first and not any(boolean.startswith(text) for boolean in _BOOLEANS)
    last = last and not any(boolean.endswith(text) for boolean in _BOOLEANS)
    return _longest(
        Needle(
            run.group(),
            values.caseless,
            starts=first and run.start() == 0,
            ends=last and run.end() == len(text),
        )
        for run in _RUN.finditer(text)
        if not _NUMERIC.fullmatch(run.group())  # JSON spells numbers in many ways
    )


def _longest(needles: Iterable[Needle]) -> Needle | None:
    usable = (needle for needle in needles if needle.size >= SHORTEST)
    return max(usable, key=lambda needle: needle.size, default=None)


def _of_words(wanted: tuple[str, ...], *, phrase: bool) -> tuple[Clause, ...]:
    found = [
        _longest(
            Needle(run, caseless=True) for run in _RUN.findall(word) if not _NUMERIC.fullmatch(run)
        )
        for word in wanted
    ]
    known = [needle for needle in found if needle is not None]
    if phrase:
        return best((frozenset({needle}) for needle in known), _rank)
    return (frozenset(known),) if known and len(known) == len(found) else ()

r"""Needles: texts that every matching event must contain.

What a query requires is given as clauses: an event contains at least one needle of each clause. An
event that fails one clause cannot match, and that shows in its raw JSON, without decoding
(`pipeline.engine.prefilter`). Needles are printable ASCII without a slash: texts that all JSON
writers spell in the same way, except for escapes of the form ``\u00XX``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from pipeline.kql.clauses import best, clauses_of, clauses_of_or
from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.free_text import pattern_parts
from pipeline.kql.nodes import Boolean, Is, Node, Text, Wildcard, literal_text
from pipeline.kql.values import KeywordType, TextType
from pipeline.kql.values.folding import words

SHORTEST = 4
"""Shorter needles, including quotes, are in every event."""

LONGEST = 256
"""The maximum length of a needle: more characters would not make it more selective."""

COMMON_WORDS = frozenset(
    {
        *("windows", "linux", "macos", "process", "library", "file", "network", "registry"),
        *("driver", "start", "info", "change", "creation", "endpoint", "event", "events", "host"),
        *("user", "microsoft", "system32", "true", "false", "success", "failure", "unknown"),
        *("trusted", "microsoft windows", "microsoft corporation", "users", "program files"),
    }
)
"""What is in most endpoint events, as a value or as part of a field's name, and so is not
selective."""

_RUN = re.compile(r"[ -.0-~]+")
_BOOLEANS = ("true", "false")
# What a JSON number may look like as text, and what part of one may.
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
_NUMERIC = re.compile(r"[0-9.eE+-]*")
# An integer within 64 bits that is written without a fraction has only one spelling.
_INTEGER = re.compile(r"[1-9][0-9]{,14}")


@dataclass(frozen=True, slots=True, order=True)
class Needle:
    """A text that some value of a matching event contains.

    Attributes:
        text: printable ASCII without a slash; in lower case if `caseless`.
        caseless: the value may contain it in any case, by `pipeline.kql.values.folding.lower`.
        starts: the value is a string that begins with it.
        ends: the value is a string that ends with it.
    """

    text: str
    caseless: bool = False
    starts: bool = False
    ends: bool = False

    @property
    def size(self) -> int:
        """The number of known characters, including quotes."""
        return len(self.text) + self.starts + self.ends


Clause: TypeAlias = frozenset[Needle]
"""Needles, at least one of which a matching event contains."""


def required_clauses(node: Node, table: FieldTable) -> tuple[Clause, ...]:
    """Return what a matching event must contain, most selective first; empty if nothing is known.

    Negations, numbers with a fraction, booleans, dates, addresses and free text contribute nothing.
    """

    def leaf(node: Is, nested: str | None) -> tuple[Clause, ...]:
        if not isinstance(node.field, str):
            return ()
        found = table.get(node.field if nested is None else f"{nested}.{node.field}")
        return () if found is None else _of_value(node, found)

    return clauses_of(node, leaf, _rank)


def _rank(clause: Clause) -> tuple[int, int, int]:
    """Rank by usefulness: first what most events do not contain, then longer needles, as rarer."""
    common = any(needle.text.lower() in COMMON_WORDS for needle in clause)
    return common, -min(needle.size for needle in clause), len(clause)


def _of_value(node: Is, found: FieldType) -> tuple[Clause, ...]:
    if found.is_container:
        return ()
    value_type, value = found.value_type, node.value
    if isinstance(value_type, KeywordType) and isinstance(value, Text | Boolean):
        return _one(_of_whole(literal_text(value), value_type))
    if isinstance(value_type, KeywordType) and isinstance(value, Wildcard):
        if found.type == "keyword":
            return _of_pattern(value.parts, value_type)
        return clauses_of_or(
            (_of_pattern(part, value_type) for part in pattern_parts(value)), _rank
        )
    if isinstance(value_type, TextType) and isinstance(value, Text):
        return _of_words(words(value.value), phrase=value.quoted)
    return ()


def _one(needle: Needle | None) -> tuple[Clause, ...]:
    return () if needle is None else (frozenset({needle}),)


def _of_whole(text: str, value_type: KeywordType) -> Needle | None:
    """Return the best needle of a whole value."""
    text = value_type.normal(text)
    if text in _BOOLEANS:  # which may be written without quotes
        return Needle(text, value_type.caseless)
    if _NUMBER.fullmatch(text):
        usable = len(text) >= SHORTEST and _INTEGER.fullmatch(text)
        return Needle(text, value_type.caseless) if usable else None
    return _longest(
        Needle(
            run.group(),
            value_type.caseless,
            starts=run.start() == 0,
            ends=run.end() == len(text),
        )
        for run in _RUN.finditer(text)
    )


def _of_pattern(parts: tuple[str, ...], value_type: KeywordType) -> tuple[Clause, ...]:
    """Return a clause for each text between the stars of a pattern."""
    if len(parts) == 1:
        return _one(_of_whole(parts[0], value_type))
    found = [
        _of_part(
            value_type.normal(part), value_type, first=number == 0, last=number == len(parts) - 1
        )
        for number, part in enumerate(parts)
    ]
    return best((frozenset({needle}) for needle in found if needle is not None), _rank)


def _of_part(text: str, value_type: KeywordType, *, first: bool, last: bool) -> Needle | None:
    # `t*` also matches the value true, which has no quotes.
    first = first and not any(boolean.startswith(text) for boolean in _BOOLEANS)
    last = last and not any(boolean.endswith(text) for boolean in _BOOLEANS)
    return _longest(
        Needle(
            run.group(),
            value_type.caseless,
            starts=first and run.start() == 0,
            ends=last and run.end() == len(text),
        )
        for run in _RUN.finditer(text)
        if not _NUMERIC.fullmatch(run.group())  # JSON spells numbers in many ways
    )


def _longest(needles: Iterable[Needle]) -> Needle | None:
    """Return the longest usable needle; if it is very long, its beginning."""
    usable = (needle for needle in needles if needle.size >= SHORTEST)
    best = max(usable, key=lambda needle: needle.size, default=None)
    if best is not None and len(best.text) > LONGEST:
        return replace(best, text=best.text[:LONGEST], ends=False)
    return best


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

r"""Literals that a matching event cannot do without: what a search of the raw JSON may rely on.

A record that holds none of them cannot match, and need not be decoded. Only texts that JSON
writers spell in one way are used: printable ASCII without quote, backslash, slash, ``<``, ``>``
and ``&``. A writer may still spell any character as ``\u00XX``; a record with such an escape has
to be decoded (`pipeline.engine.prefilter` sees to it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.kql.field_table import FieldTable
from pipeline.kql.field_type import FieldType
from pipeline.kql.free_text import pattern_parts
from pipeline.kql.nodes import (
    And,
    Boolean,
    Is,
    Nested,
    Node,
    Or,
    Text,
    Wildcard,
    literal_text,
)
from pipeline.kql.values import KeywordType, TextType
from pipeline.kql.values.folding import lower, words

SHORTEST = 4
"""Shorter literals are found in every event."""

COMMON_WORDS = frozenset(
    {
        *("windows", "linux", "macos", "process", "library", "file", "network", "registry"),
        *("driver", "start", "info", "change", "creation", "endpoint", "event", "events", "host"),
        *("user", "microsoft", "system32", "true", "false", "success", "failure", "unknown"),
        *("trusted", "microsoft windows", "microsoft corporation", "users", "program files"),
    }
)
"""What stands in most endpoint events, as a value or a field's name: it tells them not apart."""

_ONE_SPELLING = re.compile(r"[ !#-%'-.0-;=?-\[\]-~]+")
# The Kelvin sign lower-cases to k and the dotted capital I to i: in a caseless field these two
# letters may stand in the raw text as something that is not ASCII.
_ONE_SPELLING_CASELESS = re.compile(r"[ !#-%'-.0-;=?-\[\]-hjl-~]+")
_NUMERIC = re.compile(r"[0-9.eE+-]*")


@dataclass(frozen=True, slots=True)
class Literals:
    """At least one of these texts occurs in the raw JSON of every event that matches.

    Attributes:
        exact: texts that occur as they are.
        caseless: lower-case ASCII texts that occur in any case.
    """

    exact: frozenset[str] = frozenset()
    caseless: frozenset[str] = frozenset()

    @property
    def alternatives(self) -> frozenset[str]:
        """All of them; a search that ignores case may use this."""
        return self.exact | self.caseless

    def __or__(self, other: Literals) -> Literals:
        return Literals(self.exact | other.exact, self.caseless | other.caseless)

    @property
    def strength(self) -> tuple[bool, int, int]:
        """The order of usefulness: nothing that most events hold, then the longer the rarer."""
        texts = self.alternatives
        common = any(text.lower() in COMMON_WORDS for text in texts)
        return not common, min(len(text) for text in texts), -len(texts)


def required_literals(
    node: Node, table: FieldTable, *, nested: str | None = None
) -> Literals | None:
    """What a matching event must hold, or None when nothing usable is known.

    An `and` needs only its best child; an `or` needs something of every child; a negation,
    numbers, booleans, dates, addresses and free text give nothing.

    Args:
        node: the query.
        table: the field types.
        nested: the nested path that the node stands in.
    """
    match node:
        case And():
            found = [required_literals(child, table, nested=nested) for child in node.children]
            usable = [literals for literals in found if literals is not None]
            return max(usable, key=lambda literals: literals.strength, default=None)
        case Or():
            return _every(
                [required_literals(child, table, nested=nested) for child in node.children]
            )
        case Nested():
            path = node.path if nested is None else f"{nested}.{node.path}"
            return required_literals(node.child, table, nested=path)
        case Is(field=str(name)):
            found_type = table.get(name if nested is None else f"{nested}.{name}")
            return None if found_type is None else _of_value(node, found_type)
        case _:
            return None


def _every(found: list[Literals | None]) -> Literals | None:
    known = [literals for literals in found if literals is not None]
    if len(known) < len(found):
        return None
    # All at once: one by one, thousands of alternatives would be copied thousands of times.
    return Literals(
        exact=frozenset().union(*(literals.exact for literals in known)),
        caseless=frozenset().union(*(literals.caseless for literals in known)),
    )


def _of_value(node: Is, found: FieldType) -> Literals | None:
    if found.is_container:
        return None
    values, value = found.values, node.value
    if isinstance(values, KeywordType) and isinstance(value, Text | Boolean):
        return _of_keyword((literal_text(value),), values)
    if isinstance(values, KeywordType) and isinstance(value, Wildcard):
        parts = [value.parts] if found.type == "keyword" else list(pattern_parts(value))
        return _every([_of_keyword(part, values) for part in parts])
    if isinstance(values, TextType) and isinstance(value, Text):
        return _of_words(words(value.value), phrase=value.quoted)
    return None


def _of_keyword(texts: tuple[str, ...], values: KeywordType) -> Literals | None:
    """The longest usable run of a whole value or of a pattern's parts."""
    pattern = _ONE_SPELLING_CASELESS if values.caseless else _ONE_SPELLING
    normal = [lower(text) if values.caseless else text for text in texts]
    runs = [run for text in normal for run in pattern.findall(text) if _is_usable(run)]
    if not runs:
        return None
    best = frozenset({max(runs, key=len)})
    return Literals(caseless=best) if values.caseless else Literals(exact=best)


def _of_words(wanted: tuple[str, ...], *, phrase: bool) -> Literals | None:
    runs: list[str] = []
    for word in wanted:
        usable = [run for run in _ONE_SPELLING_CASELESS.findall(word) if _is_usable(run)]
        if usable:
            runs.append(max(usable, key=len))
        elif not phrase:
            return None
    if not runs:
        return None
    return Literals(caseless=frozenset({max(runs, key=len)} if phrase else runs))


def _is_usable(run: str) -> bool:
    """Long enough, and not what a number might look like: JSON spells numbers in many ways."""
    return len(run) >= SHORTEST and not _NUMERIC.fullmatch(run)

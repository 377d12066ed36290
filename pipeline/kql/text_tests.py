"""What a part of a query asks of the one text of a field, in a form that other code can ask.

That is `firstseen-native`, which knows no KQL. What a clause asks is taken from what the compiler
makes of it, so the meaning of a query is said in one place.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pipeline.kql.compiler import compile_clause
from pipeline.kql.field_table import FieldTable
from pipeline.kql.nodes import And, Is, Node, Not, Or, Range, children_of
from pipeline.kql.patterns import StarPattern
from pipeline.kql.predicates import Anything
from pipeline.kql.values import KeywordType


class TextLeaf(NamedTuple):
    """Whether a text, as it is indexed, is one of some texts or fits one of some patterns.

    Attributes:
        caseless: it is indexed in lower case.
        ignore_above: a longer one (UTF-16 units) is not indexed, and nothing is true of it; None
            for no limit.
        exact: texts that it may be.
        patterns: patterns that it may fit, each as the texts between its stars.
        anything: whether it may be any text.
    """

    caseless: bool
    ignore_above: int | None
    exact: frozenset[str]
    patterns: tuple[tuple[str, ...], ...]
    anything: bool


class TextJunction(NamedTuple):
    """What several tests say together.

    Attributes:
        is_any: whether one of them is enough, or all have to be true.
        is_negated: whether it is true where that is not.
        children: the tests.
    """

    is_any: bool
    is_negated: bool
    children: tuple[TextTest, ...]


TextTest: TypeAlias = TextLeaf | TextJunction


def text_test(node: Node, table: FieldTable) -> TextTest | None:
    """Return what a part of a query asks of the one text of its field.

    Args:
        node: a part that asks one field, whose values are texts.
        table: the field types.

    Returns:
        None if it asks something else: for an order, say, or for words.
    """
    match node:
        case And() | Or() | Not():
            tests = [text_test(child, table) for child in children_of(node)]
            known = tuple(test for test in tests if test is not None)
            if len(known) < len(tests):
                return None
            return TextJunction(isinstance(node, Or), isinstance(node, Not), known)
        case Is() | Range():
            return _of_clause(node, table)
        case _:
            return None


def patterns_in(test: TextTest) -> int:
    """Return how many patterns a test has."""
    match test:
        case TextLeaf():
            return len(test.patterns)
        case TextJunction():
            return sum(map(patterns_in, test.children))


def _of_clause(node: Is | Range, table: FieldTable) -> TextLeaf | None:
    leaf = compile_clause(node, table)
    if leaf is None or not isinstance(leaf.field.values, KeywordType):
        return None
    patterns = tuple(each.parts for each in leaf.predicates if isinstance(each, StarPattern))
    anything = any(isinstance(each, Anything) for each in leaf.predicates)
    if len(patterns) + anything < len(leaf.predicates):
        return None
    values = leaf.field.values
    return TextLeaf(values.caseless, values.ignore_above, leaf.exact, patterns, anything)

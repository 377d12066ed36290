"""What a part of a query tests about the text of one field, in a form that native code can run.

`firstseen-native` does not know KQL. The tests are derived from what the compiler makes of each
clause, so that the meaning of a query is defined in one place only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from pipeline.kql.compiler import compile_leaves
from pipeline.kql.field_table import FieldTable
from pipeline.kql.matching import Leaf, join_by_field
from pipeline.kql.nodes import Is, Nested, Node, Not, Or, Range, children_of
from pipeline.kql.patterns import StarPattern
from pipeline.kql.predicates import Anything
from pipeline.kql.values import KeywordType


class TextLeaf(NamedTuple):
    """Whether an indexed text equals one of some texts or fits one of some patterns.

    Attributes:
        caseless: whether it is indexed in lower case.
        ignore_above: longer texts (in UTF-16 units) are not indexed, and no test is true of them;
            None for no limit.
        exact: the texts it may equal.
        patterns: the patterns it may fit, each as the texts between its stars.
        anything: whether it may be any text.
    """

    caseless: bool
    ignore_above: int | None
    exact: frozenset[str]
    patterns: tuple[tuple[str, ...], ...]
    anything: bool


class TextJunction(NamedTuple):
    """A combination of several tests.

    Attributes:
        is_any: whether one true test suffices, instead of all.
        is_negated: whether the result is negated.
        children: the tests.
    """

    is_any: bool
    is_negated: bool
    children: tuple[TextTest, ...]


TextTest: TypeAlias = TextLeaf | TextJunction


def text_test(node: Node, table: FieldTable) -> TextTest | None:
    """Return what a part of a query tests about the text of its field.

    Args:
        node: a part of a query that reads only one field, whose values are texts.
        table: the field types.

    Returns:
        None if it tests something else, such as an order, or words.
    """
    match node:
        case Is() | Range():
            return _of_clauses([node], table)[0]
        case Nested():
            return None
    children = children_of(node)
    tests: list[TextTest | None] = []
    if isinstance(node, Or):  # a list of values is one look-up, however long it is
        clauses = [child for child in children if isinstance(child, Is | Range)]
        children = tuple(child for child in children if not isinstance(child, Is | Range))
        tests = _of_clauses(clauses, table)
    tests += [text_test(child, table) for child in children]
    known = tuple(test for test in tests if test is not None)
    if len(known) < len(tests):
        return None
    return TextJunction(isinstance(node, Or), isinstance(node, Not), known)


def max_steps(test: TextTest) -> int:
    """Return the maximum number of steps of a test: for each leaf, one plus one per pattern."""
    match test:
        case TextLeaf():
            return 1 + len(test.patterns)
        case TextJunction():
            return sum(map(max_steps, test.children))


def _of_clauses(clauses: Sequence[Is | Range], table: FieldTable) -> list[TextTest | None]:
    """Return what clauses test, any of which suffices; None stands for what is not known."""
    leaves = compile_leaves(clauses, table)
    return [None] if leaves is None else [_of_leaf(leaf) for leaf in join_by_field(leaves)]


def _of_leaf(leaf: Leaf) -> TextLeaf | None:
    value_type = leaf.field.value_type
    if not isinstance(value_type, KeywordType):
        return None
    patterns = tuple(each.parts for each in leaf.predicates if isinstance(each, StarPattern))
    anything = any(isinstance(each, Anything) for each in leaf.predicates)
    if any(not isinstance(each, StarPattern | Anything) for each in leaf.predicates):
        return None
    return TextLeaf(value_type.caseless, value_type.ignore_above, leaf.exact, patterns, anything)

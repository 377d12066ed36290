"""The syntax tree of a query: frozen nodes, made by the parser and compared by structure.

Spans say where in the text a node was read. They do not affect equality, so parsing a reformatted
query gives a tree equal to the original one.

The vocabulary is that of Kibana's own syntax tree (kbn-es-query): `is`, `range`, `nested`, `and`,
`or`, `not`. A value list ``f:(a or b)`` is already expanded: ``Or(Is(f, a), Is(f, b))``.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Literal as OneOf
from typing import TypeAlias

from pipeline.errors import Span

NOWHERE = Span(0, 0)
"""The span of a node that was not read from a text."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal. On a text field, a quoted one is a phrase, an unquoted one loose words."""

    value: str
    quoted: bool = False
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Wildcard:
    """An unquoted literal with unescaped stars; ``parts`` are the texts between them."""

    parts: tuple[str, ...]
    span: Span = attribute(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError("a wildcard has at least one star, hence two parts")

    @property
    def is_lone(self) -> bool:
        """Whether this is a single star, which as a value tests whether the field exists."""
        return self.parts == ("", "")


@dataclass(frozen=True, slots=True)
class Boolean:
    """An unquoted ``true`` or ``false``, in lower case."""

    value: bool
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Null:
    """An unquoted ``null``: it parses, but Elasticsearch rejects it, and so does the compiler."""

    span: Span = attribute(default=NOWHERE, compare=False)


Literal: TypeAlias = Text | Wildcard | Boolean | Null

FieldName: TypeAlias = str | Wildcard
"""A field; with stars, all mapped fields whose full name matches."""

Operator: TypeAlias = OneOf["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Is:
    """``field:value``; without a field the value is free text."""

    field: FieldName | None
    value: Literal
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Range:
    """``field >= value``. A star in the value is an ordinary character."""

    field: FieldName
    operator: Operator
    value: Literal
    span: Span = attribute(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Nested:
    """``path:{ child }``: one object of the array must satisfy the whole child."""

    path: str
    child: Node
    span: Span = attribute(default=NOWHERE, compare=False)


def _two_or_more(children: tuple[Node, ...]) -> None:
    if len(children) < 2:
        raise ValueError("`and` and `or` join at least two nodes")


@dataclass(frozen=True, slots=True)
class And:
    children: tuple[Node, ...]
    span: Span = attribute(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        _two_or_more(self.children)


@dataclass(frozen=True, slots=True)
class Or:
    children: tuple[Node, ...]
    span: Span = attribute(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        _two_or_more(self.children)


@dataclass(frozen=True, slots=True)
class Not:
    child: Node
    span: Span = attribute(default=NOWHERE, compare=False)


Node: TypeAlias = Is | Range | Nested | And | Or | Not

LONE_STAR = Wildcard(("", ""))
MATCH_ALL = Is(LONE_STAR, LONE_STAR)
"""``*:*``, which is also the meaning of an empty query."""
NO_NAME = "null"
"""What Kibana joins to the path if a literal inside braces has no field: no field has this name."""


def children_of(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below this one."""
    match node:
        case And() | Or():
            return node.children
        case Not() | Nested():
            return (node.child,)
        case Is() | Range():
            return ()


def literal_text(literal: Literal) -> str:
    """Return the text that a literal stands for; stars are kept as stars."""
    match literal:
        case Text():
            return literal.value
        case Wildcard():
            return "*".join(literal.parts)
        case Boolean():
            return "true" if literal.value else "false"
        case Null():
            return "null"

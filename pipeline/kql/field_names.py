"""Which fields a query reads."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.kql.nodes import NO_NAME, Is, Nested, Node, Not, Range, Wildcard, children_of


def field_names(node: Node) -> frozenset[str]:
    """Return the full names of all fields in a query; names with wildcards as written.

    Names inside a nested block include its path; there, a literal without a field has the name
    `NO_NAME`. A lone star names no field.
    """
    return frozenset(name for name, _ in _named(node))


def negated_field_names(node: Node) -> frozenset[str]:
    """Return the names, as `field_names` does, of the fields in a clause below a `not`."""
    return frozenset(name for name, is_negated in _named(node) if is_negated)


def _named(node: Node) -> Iterator[tuple[str, bool]]:
    """Yield the name in each clause, and whether the clause is below a `not`."""
    pending: list[tuple[Node, str, bool]] = [(node, "", False)]
    while pending:
        current, prefix, is_negated = pending.pop()
        if isinstance(current, Is | Range):
            match current.field:
                case None if prefix:
                    yield prefix + NO_NAME, is_negated
                case str():
                    yield prefix + current.field, is_negated
                case Wildcard() if not current.field.is_lone:
                    yield prefix + "*".join(current.field.parts), is_negated
        if isinstance(current, Nested):
            prefix = f"{prefix}{current.path}."
        is_negated = is_negated or isinstance(current, Not)
        pending.extend((child, prefix, is_negated) for child in children_of(current))

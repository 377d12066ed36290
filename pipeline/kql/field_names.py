"""Which fields a query reads."""

from __future__ import annotations

from pipeline.kql.nodes import NO_NAME, Is, Nested, Node, Range, Wildcard, children_of


def field_names(node: Node) -> frozenset[str]:
    """Return the full names of all fields in a query; names with wildcards as written.

    Names inside a nested block include its path; there, a literal without a field has the name
    `NO_NAME`. A lone star names no field.
    """
    names: set[str] = set()
    pending: list[tuple[Node, str]] = [(node, "")]
    while pending:
        current, prefix = pending.pop()
        if isinstance(current, Is | Range):
            match current.field:
                case None if prefix:
                    names.add(prefix + NO_NAME)
                case str():
                    names.add(prefix + current.field)
                case Wildcard() if not current.field.is_lone:
                    names.add(prefix + "*".join(current.field.parts))
        if isinstance(current, Nested):
            prefix = f"{prefix}{current.path}."
        pending.extend((child, prefix) for child in children_of(current))
    return frozenset(names)

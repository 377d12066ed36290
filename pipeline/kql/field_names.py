"""Which fields a query reads."""

from __future__ import annotations

from pipeline.kql.nodes import Is, Nested, Node, Range, children_of


def field_names(node: Node) -> frozenset[str]:
    """Return the full names of all fields in a query; names with wildcards as written.

    Names inside a nested block include its path. A lone star names no field.
    """
    names: set[str] = set()
    pending: list[tuple[Node, str]] = [(node, "")]
    while pending:
        current, prefix = pending.pop()
        if isinstance(current, Is | Range) and current.field is not None:
            if isinstance(current.field, str):
                names.add(prefix + current.field)
            elif not current.field.is_lone:
                names.add(prefix + "*".join(current.field.parts))
        if isinstance(current, Nested):
            prefix = f"{prefix}{current.path}."
        pending.extend((child, prefix) for child in children_of(current))
    return frozenset(names)

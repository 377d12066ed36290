"""What a rule can read of an event. If that is known, its verdict depends on nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.kql import FieldTable
from pipeline.kql.nodes import Is, Nested, Node, Range, children_of
from pipeline.rules.compiled import CompiledRule

_NESTED_PATH = ("nested", "path")


def paths_read(compiled: CompiledRule) -> frozenset[str] | None:
    """Return the paths of an event on which the matcher and the terms of a rule depend.

    The rule depends on everything at one of these paths, on the way to one, or below one (a field
    may be spelled in several ways, see `pipeline.kql.fields`). The result is None if the paths are
    not known: free text, for example, is searched for in whatever is mapped. No verdict depends on
    a clock, because rules are compiled without one.
    """
    rule = compiled.rule
    names = {*_of_query(compiled.node, compiled.fields), *_of_filters(compiled.filters)}
    if rule.new_terms is not None:
        names.update(rule.new_terms.fields)
    if None in names:
        return None
    paths = {name for name in names if name is not None}
    found = (compiled.fields.get(name) for name in paths)
    return frozenset(paths.union(field.source for field in found if field is not None))


class FieldParts(NamedTuple):
    """Which fields a rule reads, and how.

    Attributes:
        own: for each path, the largest parts of the query that read only the field there.
        others: paths that are also read in another way: through names with wildcards, within nested
            objects, or by filters.
    """

    own: Mapping[str, list[Node]]
    others: frozenset[str]


def parts_by_field(compiled: CompiledRule) -> FieldParts:
    """Return the parts of a query, by the field that they read.

    If `paths_read` knows the paths of a rule, then for the fields that are in `own` and not in
    `others`, the query depends on nothing but the result of each of those parts.
    """
    own: defaultdict[str, list[Node]] = defaultdict(list)
    others = set(_of_filters(compiled.filters))

    def only_field(node: Node) -> str | None:
        """Return the path of the only field that a node reads; else note those of its children."""
        if isinstance(node, Is | Range) and isinstance(node.field, str):
            return _source(node.field, compiled.fields)
        if isinstance(node, Is | Range | Nested):
            others.update(name for name in _of_query(node, compiled.fields) if name is not None)
            return None
        children = children_of(node)
        paths_below = [only_field(child) for child in children]
        if len(set(paths_below)) == 1:
            return paths_below[0]
        for child, path in zip(children, paths_below, strict=True):
            if path is not None:
                own[path].append(child)
        return None

    path = only_field(compiled.node)
    if path is not None:
        own[path].append(compiled.node)
    sources = {_source(name, compiled.fields) for name in others}
    return FieldParts(own, frozenset(others | sources))


def _source(name: str, fields: FieldTable) -> str:
    found = fields.get(name)
    return name if found is None else found.source


def _of_query(root: Node, fields: FieldTable) -> Iterator[str | None]:
    pending: list[tuple[Node, str]] = [(root, "")]
    while pending:
        node, prefix = pending.pop()
        if isinstance(node, Is | Range):
            yield from _of_clause(node, prefix, fields)
        if isinstance(node, Nested):
            prefix = f"{prefix}{node.path}."
            yield prefix.rstrip(".")
        pending.extend((child, prefix) for child in children_of(node))


def _of_clause(node: Is | Range, prefix: str, fields: FieldTable) -> Iterator[str | None]:
    if node.field is None:
        yield None
    elif isinstance(node.field, str):
        yield prefix + node.field
    elif prefix or node.field.is_lone:
        yield None
    else:
        yield from (field.source for field in fields.expand(node.field))


def _of_filters(value: Any, parents: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield everything in a filter that may be a field name: keys, alone and joined with dots.

    Some of these are not fields. They do no harm, because no event has them.
    """
    if isinstance(value, Mapping):
        for key, below in value.items():
            for start in range(len(parents) + 1):
                yield ".".join((*parents[start:], str(key)))
            yield from _of_filters(below, (*parents, str(key)))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _of_filters(each)
    elif isinstance(value, str) and (parents[-1:] == ("field",) or parents[-2:] == _NESTED_PATH):
        yield value

"""Which indices a rule searches: turns the rule's `index` patterns into a test of an index name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.kql.patterns import compile_pattern


def compile_index_patterns(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a test of whether an index is among those that a rule searches.

    As in Elasticsearch's multi-target syntax, one entry may hold several patterns separated by
    commas, ``*`` stands for any text, and a leading ``-`` excludes what earlier patterns included.
    If there are only exclusions, or no patterns at all, every other index is included. The name of
    a remote cluster (``cluster:logs-*``) is ignored, because an event does not say which cluster it
    went to.
    """
    steps = [_step(pattern) for entry in patterns for pattern in _split(entry)]
    starts_in = all(excludes for excludes, _ in steps)

    def accepts(name: str) -> bool:
        is_in = starts_in
        for excludes, fits in steps:
            # A pattern can only include or only exclude.
            if is_in is excludes and fits(name):
                is_in = not excludes
        return is_in

    return accepts


def _split(entry: str) -> list[str]:
    return [pattern for part in entry.split(",") if (pattern := part.strip())]


def _step(pattern: str) -> tuple[bool, Callable[[str], bool]]:
    name = pattern.removeprefix("-").rpartition(":")[2]
    return pattern.startswith("-"), _fits(name)


def _fits(name: str) -> Callable[[str], bool]:
    parts = tuple(["", ""] if name == "_all" else name.split("*"))
    return compile_pattern(parts) if len(parts) > 1 else name.__eq__

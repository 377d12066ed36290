"""Which indices a rule searches: the `index` patterns of a rule as a test of one index name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.kql.patterns import compile_pattern


def compile_index_patterns(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test whether an index is among those a rule searches.

    As in Elasticsearch's multi-target syntax, one entry may hold several patterns with commas
    between, ``*`` stands for any text, and a leading ``-`` takes out of what the patterns before
    it let in. Exclusions alone take out of everything. The name of a remote cluster
    (``cluster:logs-*``) is passed over: an event does not say which cluster it went to.
    """
    steps = [_step(pattern) for entry in patterns for pattern in _split(entry)]
    starts_in = all(excludes for excludes, _ in steps)

    def accepts(name: str) -> bool:
        is_in = starts_in
        for excludes, fits in steps:
            # A pattern can only change the answer in its own direction.
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

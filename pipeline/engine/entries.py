"""Entries: how many rows each rule has in one partition of the first seen state.

A bound for each rule keeps one rule's flood of terms from filling the disk and from pushing out
what other rules remember. The count is kept in memory only: the first pass of
`pipeline.engine.sweep` over the rows takes it, and every row that comes or goes is counted from
then on. Rows beyond the place that the pass has reached are left to the pass, so none is counted
twice. Until the pass is through the count is too low, and a rule may exceed its bound by what it
learns meanwhile.
"""

from __future__ import annotations

from collections import Counter


class Entries:
    """Counts rows by rule and says whether there is room for one more.

    Args:
        limit: rows that a rule may have in this partition; None for no bound.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._counts: Counter[str] = Counter()
        self._counted_to: bytes | None = b""

    @property
    def complete(self) -> bool:
        """Whether every row is counted."""
        return self._counted_to is None

    def of(self, rule_id: str) -> int:
        """Return how many rows of a rule are counted."""
        return self._counts[rule_id]

    def by_rule(self) -> dict[str, int]:
        """Return the counts of all rules that have rows."""
        return {rule_id: count for rule_id, count in self._counts.items() if count}

    def has_room(self, rule_id: str) -> bool:
        """Whether a rule may have one more row."""
        return self.limit is None or self._counts[rule_id] < self.limit

    def added(self, key: bytes, rule_id: str) -> None:
        """Note that a row was made."""
        if self._counted_to is None or key <= self._counted_to:
            self._counts[rule_id] += 1

    def removed(self, key: bytes, rule_id: str) -> None:
        """Note that a row was removed."""
        if self._counted_to is None or key <= self._counted_to:
            self._counts[rule_id] -= 1

    def passed(self, key: bytes, rule_id: str) -> None:
        """Count a row that the first pass has come to; rows come in order of their keys."""
        if self._counted_to is not None:
            self._counted_to = key
            self._counts[rule_id] += 1

    def counted(self) -> None:
        """Note that the first pass is through."""
        self._counted_to = None

"""How many rows each rule has in one partition of the first-seen state.

A limit for each rule keeps one rule's flood of terms from filling the disk and from displacing what
other rules remember. The counts are kept in memory only. The first pass of `pipeline.engine.sweep`
counts the rows, and a row that is added or removed is counted from then on. During the first pass,
a row beyond the pass's present position is left to the pass, so that no row is counted twice. Until
the pass is complete, the counts are too low, and a rule may exceed its limit by what it learns in
the meantime.
"""

from __future__ import annotations

from collections import Counter


class RowCounts:
    """Counts rows by rule, and says whether there is room for another.

    Args:
        limit: the number of rows that a rule may have in this partition; None for no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._counts: Counter[str] = Counter()
        self._counted_to: bytes | None = b""

    def of(self, rule_id: str) -> int:
        """Return how many rows of a rule have been counted."""
        return self._counts[rule_id]

    def by_rule(self) -> dict[str, int]:
        """Return the counts of all rules that have rows."""
        return {rule_id: count for rule_id, count in self._counts.items() if count}

    def has_room(self, rule_id: str) -> bool:
        """Whether a rule may have another row."""
        return self.limit is None or self._counts[rule_id] < self.limit

    def added(self, key: bytes, rule_id: str) -> None:
        """Record that a row was added."""
        if self._counted_to is None or key <= self._counted_to:
            self._counts[rule_id] += 1

    def removed(self, key: bytes, rule_id: str) -> None:
        """Record that a row was removed."""
        if self._counted_to is None or key <= self._counted_to:
            self._counts[rule_id] -= 1

    def reached(self, key: bytes, rule_id: str) -> None:
        """Count a row that the first pass has reached; rows come in order of their keys."""
        if self._counted_to is not None:
            self._counted_to = key
            self._counts[rule_id] += 1

    def all_reached(self) -> None:
        """Record that the first pass is complete."""
        self._counted_to = None

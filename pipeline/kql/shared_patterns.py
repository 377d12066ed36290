"""The star patterns of all queries that share their work: one search of a field covers them all."""

from __future__ import annotations

from pipeline.kql.pattern_set import PatternSet


class SharedPatterns:
    """The patterns of several queries, by field."""

    def __init__(self) -> None:
        self._of_field: dict[object, FieldPatterns] = {}

    def of_field(self, key: object) -> FieldPatterns:
        """Return the patterns of a field, given its key in memos."""
        return self._of_field.setdefault(key, FieldPatterns())

    def prepare(self) -> None:
        """Build all searches now, so that no event has to wait for it."""
        for field in self._of_field.values():
            for patterns in (field.texts, field.words, field.phrases):
                patterns.prepare()


class FieldPatterns:
    """The patterns that are tested on one field.

    Attributes:
        texts: patterns for its values as a whole.
        words: patterns for their words.
        phrases: patterns for words in a row.
    """

    def __init__(self) -> None:
        self.texts = PatternSet()
        self.words = PatternSet()
        self.phrases = PatternSet()

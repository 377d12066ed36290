"""The values of one field of one event, indexed once for all tests that ask for them.

One value is tested as it stands. Only what is long comes here: arrays, and texts of a kilobyte and
more. Each clause of each rule would otherwise fold and walk it again.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from functools import cached_property
from itertools import chain
from typing import Any, Final, TypeAlias

from pipeline.kql.fields import as_list
from pipeline.kql.values import ValueType

SEPARATOR: Final = "\1"
"""Between texts. It is no NUL: Hyperscan's binding takes that for the end of what it searches."""
STAND_IN: Final = "\2"
"""What the separator is replaced by inside of values."""


class Texts:
    """Many texts as one, so that a search is one pass whether they are few or many.

    Attributes:
        texts: the texts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)

    @cached_property
    def joined(self) -> str:
        """The texts with a separator before, between and behind them."""
        framed = ["", *self.texts, ""]
        joined = SEPARATOR.join(framed)
        if joined.count(SEPARATOR) >= len(framed):
            joined = SEPARATOR.join(text.replace(SEPARATOR, STAND_IN) for text in framed)
        return joined

    @cached_property
    def encoded(self) -> bytes:
        """The same as UTF-8, for a search of bytes."""
        return self.joined.encode("utf-8", "surrogatepass")


class Indexed:
    """What is indexed of a field.

    Attributes:
        values: the distinct indexed values, in order.
    """

    def __init__(self, raw: Any, values: ValueType) -> None:
        """Index a field.

        Args:
            raw: what the field's reader gave.
            values: how the field is indexed.
        """
        found: dict[Any, None] = dict.fromkeys(map(values.index, as_list(raw)))
        found.pop(None, None)
        self.values: KeysView[Any] = found.keys()

    @cached_property
    def texts(self) -> Texts:
        """All values, of a keyword."""
        return Texts(self.values)

    @cached_property
    def words(self) -> Texts:
        """The words of all values, of a text."""
        return Texts(dict.fromkeys(chain.from_iterable(self.values)))


Memo: TypeAlias = dict[object, Indexed]
"""What was indexed of one event, by field. An event must not change while its memo is used."""

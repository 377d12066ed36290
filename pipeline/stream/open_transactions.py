"""Transactions that nobody ends: records behind them cannot be read, and do not count as lag."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from faust.types import TP


class OpenTransactions:
    """Tells for how long the same open transaction has held up a partition.

    Producers with back-to-back transactions have one open at any moment. That does not count,
    because the offset at which the first open transaction begins keeps advancing.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: dict[TP, tuple[int, float]] = {}

    def seconds(self, tp: TP, begins: int | None) -> float:
        """Return for how many seconds a partition's first open transaction has been the same.

        Args:
            tp: the partition.
            begins: the first offset of the transaction; None if no records wait behind one.
        """
        if begins is None:
            self._since.pop(tp, None)
            return 0.0
        known, since = self._since.get(tp, (None, 0.0))
        if known != begins:
            since = self._clock()
            self._since[tp] = begins, since
        return self._clock() - since

"""Transactions that nobody ends: what is behind them is no lag, and cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from faust.types import TP


class OpenTransactions:
    """Says for how long the same open transaction has held up a partition.

    Producers whose transactions follow one another keep one open at any moment, which is none of
    this: the place where the first one begins moves on.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since: dict[TP, tuple[int, float]] = {}

    def seconds(self, tp: TP, begins: int | None) -> float:
        """Note where the first open transaction of a partition begins; return since when it does.

        Args:
            tp: the partition.
            begins: its first offset, if records wait behind it; None if none do.
        """
        if begins is None:
            self._since.pop(tp, None)
            return 0.0
        known, since = self._since.get(tp, (None, 0.0))
        if known != begins:
            since = self._clock()
            self._since[tp] = begins, since
        return self._clock() - since

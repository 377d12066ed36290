"""Which transactions hold a partition up, and which only follow one another."""

from __future__ import annotations

from types import SimpleNamespace

from faust.types import TP

from pipeline.stream.open_transactions import OpenTransactions


def test_only_the_same_transaction_adds_up() -> None:
    clock = SimpleNamespace(now=0.0)
    transactions = OpenTransactions(lambda: clock.now)
    first, second = TP("logs", 0), TP("logs", 1)

    seen = []
    for now, begins in ((100, 5), (160, 5), (170, 9), (180, None), (190, 9), (191, 9)):
        clock.now = float(now)
        seen.append(transactions.seconds(first, begins))
        assert transactions.seconds(second, None) == 0

    assert seen == [0.0, 60.0, 0.0, 0.0, 0.0, 1.0]

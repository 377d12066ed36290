"""What is found out about one event, shared by all tests, and a budget for what they may cost.

Most of the cost of a large event is paid once: a text is split into words, an array is sorted, and
every clause of every rule looks up the result. What cannot be shared is charged in advance, in
estimated nanoseconds, so that the same event always costs the same.
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.errors import TooCostlyError


class Budget:
    """What judging may still cost. The events of a record share one.

    Attributes:
        left: the nanoseconds left, by estimate and not by clock; infinite if there is no limit.
    """

    __slots__ = ("left",)

    def __init__(self, left: float = math.inf) -> None:
        self.left = left

    def spend(self, cost: float) -> None:
        """Charge the cost of the next piece of work, before it is done.

        Raises:
            TooCostlyError: not enough is left. This cannot happen without a limit.
        """
        self.left -= cost
        if self.left < 0:
            raise TooCostlyError("too_costly", "to judge the event would take too long")


class Memo(dict[object, Any]):
    """What is known of one event, or of one object of a nested path.

    The event must not change while its memo is in use.
    """

    __slots__ = ("budget",)

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = Budget() if budget is None else budget

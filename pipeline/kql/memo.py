"""What is found out about one event, kept for all tests that ask, and how much they may ask.

Most of what a large event costs is paid once: a text is split into words, an array is sorted, and
every clause of every rule looks the answer up. What cannot be shared is counted beforehand, in
nanoseconds as a rule of thumb, so that the same event always costs the same.
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.errors import TooCostlyError


class Budget:
    """What judging one event may still cost.

    Attributes:
        left: nanoseconds, by count and not by clock; without a limit, infinite.
    """

    __slots__ = ("left",)

    def __init__(self, left: float = math.inf) -> None:
        self.left = left

    def spend(self, cost: float) -> None:
        """Ask for what the next piece of work costs, before it is done.

        Raises:
            TooCostlyError: so much is not left. Never without a limit.
        """
        self.left -= cost
        if self.left < 0:
            raise TooCostlyError("too_costly", "to judge the event would take too long")


class Memo(dict[object, Any]):
    """What is known of one event, or of one object of a nested path.

    The event must not change while its memo is used.
    """

    __slots__ = ("budget",)

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = Budget() if budget is None else budget

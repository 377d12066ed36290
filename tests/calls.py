"""Work counted in calls: it says what grows with what, on a busy machine as well."""

from __future__ import annotations

import sys
from collections.abc import Callable


def calls_of(function: Callable[[], object]) -> int:
    """How many functions, Python's and C's, are called while this one runs."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count

"""The two ways over record batches, for tests that hold both to the same."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

_MISSING = find_spec("firstseen_native") is None
_REQUIRED = os.environ.get("TEST_NATIVE") == "require"

KINDS = [
    "python",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(
            _MISSING and not _REQUIRED,
            reason="firstseen-native is not installed (uv sync --extra native)",
        ),
    ),
]
"""Values of a parameter `scan`; $TEST_NATIVE=require makes the absence of one a failure, for CI."""

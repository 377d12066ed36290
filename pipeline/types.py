"""The few types that every layer shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Event: TypeAlias = Mapping[str, Any]
"""A decoded JSON document."""

Matcher: TypeAlias = Callable[[Event], bool]
"""A compiled query: total (never raises for any JSON document) and linear in its size."""

Term: TypeAlias = str | int | float | bool
"""One indexed value of one field, in canonical form (see `pipeline.kql.fields`)."""

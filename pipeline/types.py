"""The few types that all layers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Event: TypeAlias = Mapping[str, Any]
"""A decoded JSON document."""

Matcher: TypeAlias = Callable[[Event], bool]
"""A compiled query: total (never raises for any JSON document) and linear in the document's
size."""

Term: TypeAlias = str | int | float | bool
"""One indexed value of one field, in canonical form (see
`pipeline.kql.field_table.FieldTable.terms`)."""

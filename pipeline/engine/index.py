"""Which index an event would be in, had it gone to Elasticsearch."""

from __future__ import annotations

from pipeline.engine.paths import text
from pipeline.types import Event


def index_of(event: Event) -> str | None:
    """Return the event's data stream, such as ``logs-endpoint.events.library-default``.

    Elastic Agent names it in ``data_stream.type``, ``.dataset`` and ``.namespace``. None when one
    of them is missing or no single text: then nobody knows, and every rule applies.
    """
    parts = [text(event, f"data_stream.{part}") for part in ("type", "dataset", "namespace")]
    known = [part for part in parts if part]
    return "-".join(known) if len(known) == len(parts) else None

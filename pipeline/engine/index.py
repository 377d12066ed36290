"""Which index an event would be in if it had gone to Elasticsearch."""

from __future__ import annotations

from pipeline.engine.paths import text_at
from pipeline.types import Event

_PARTS = ("type", "dataset", "namespace")

DATA_STREAM_FIELDS = tuple(f"data_stream.{part}" for part in _PARTS)
"""The fields that `index_of` reads."""


def index_of(event: Event) -> str | None:
    """Return the event's data stream, such as ``logs-endpoint.events.library-default``.

    Elastic Agent names it in ``data_stream.type``, ``.dataset`` and ``.namespace``. The result is
    None if one of them is missing or is not a single text. The index is unknown then, and every
    rule applies.
    """
    stream = event.get("data_stream")
    if type(stream) is dict:  # Elastic Agent's layout, as a shortcut: this runs for every event
        kind, dataset, namespace = map(stream.get, _PARTS)
        if type(kind) is type(dataset) is type(namespace) is str and kind and dataset and namespace:
            return f"{kind}-{dataset}-{namespace}"
    parts = [text_at(event, f"data_stream.{part}") for part in _PARTS]
    known = [part for part in parts if part]
    return "-".join(known) if len(known) == len(parts) else None

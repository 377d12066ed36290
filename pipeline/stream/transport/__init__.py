"""Faust's aiokafka transport, with its faults fixed and a record filter below it.

This is done by subclassing only; no module is patched. `consumer` makes commits, seeks and
revocations exact, `filtered_records` drops what matches nothing before Faust sees it, and
`producer` is idempotent. `pipeline.stream.contract` lists the members of Faust and aiokafka that
this relies on. The reasons are in docs/adr/0003-faust-fixes.md and
docs/adr/0006-filter-below-faust.md.
"""

from __future__ import annotations

from pipeline.stream.transport.bundles import Bundle, BundleBuffer, Delivered
from pipeline.stream.transport.consumer import Consumer
from pipeline.stream.transport.consumer_thread import ConsumerThread
from pipeline.stream.transport.driver import Transport
from pipeline.stream.transport.fetcher import Reading
from pipeline.stream.transport.options import Depth, TransportOptions
from pipeline.stream.transport.record_filter import RecordFilter

__all__ = [
    "Bundle",
    "BundleBuffer",
    "Consumer",
    "ConsumerThread",
    "Delivered",
    "Depth",
    "Reading",
    "RecordFilter",
    "Transport",
    "TransportOptions",
]

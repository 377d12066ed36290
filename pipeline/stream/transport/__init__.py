"""Faust's aiokafka transport: its faults mended, and a filter below it.

By subclassing only; no module is patched. `consumer` commits, seeks and lets go of partitions
exactly, `filtered_records` drops what matches nothing before Faust sees it, `producer` is
idempotent. Members of Faust and aiokafka that this relies on are listed in
`pipeline.stream.contract`; the reasons are in docs/adr/0003-faust-mends.md and
docs/adr/0006-filter-below-faust.md.
"""

from __future__ import annotations

from pipeline.stream.transport.bundles import Bundle, BundleBuffer, Delivered
from pipeline.stream.transport.consumer import Consumer, ConsumerThread
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

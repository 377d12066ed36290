"""Numbers that stand in Python and in `firstseen-native`."""

from __future__ import annotations

from pipeline.engine import first_seen_rows, identity, wire
from pipeline.rules import timestamp
from pipeline.stream.transport import batches, filtered_records, producer, scanning
from tests.scans import KINDS

pytestmark = list(KINDS[1].marks)


def test_both_know_the_same_numbers() -> None:
    import firstseen_native

    assert firstseen_native.SHARED == {
        "alert_id_digits": identity.ALERT_ID_LENGTH,
        "batch_header_bytes": batches.HEADER_BYTES,
        "compressed_bytes": producer._MIN_BYTES,
        "earliest_ms": timestamp.EARLIEST_MS,
        "few_records": filtered_records._FEW,
        "history_bytes": identity.HISTORY_BYTES,
        "key_bytes": identity.KEY_BYTES,
        "large_bytes": scanning.LARGE_BYTES,
        "longest_event_id": identity._LONGEST_EVENT_ID,
        "max_count": wire.MAX_COUNT,
        "max_ms": timestamp.MAX_MS,
        "min_ms": timestamp.MIN_MS,
        "row_format": first_seen_rows.ROW_FORMAT,
    }

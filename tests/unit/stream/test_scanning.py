"""The native scan does what the one in Python does."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.transport.scanning import NativeScan, batch_scan
from tests.record_batches import CODECS, RawRecord, batch, compress, section
from tests.scans import KINDS
from tests.unit.stream.test_filtered_records import NEEDLE, TP, NeedleFilter

native_only = list(KINDS[1].marks)
FAR = 1e9


@dataclass
class WatchedFilter(NeedleFilter):
    """Wants to see some of the traffic itself, as the prefilter does."""

    unwatched_bytes: int = 0
    elsewhere: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)

    def note_searched(self, size: int) -> None:
        self.elsewhere.append(size)
        self.unwatched_bytes -= size

    def positions(self, data) -> list[int]:
        self.seen.append(len(data))
        return super().positions(data)


def hay(count: int, codec: str, offset: int = 0) -> bytes:
    plain = section([RawRecord(b"hay %d" % number) for number in range(count)])
    return batch(compress(plain, codec), count, CODECS[codec], offset=offset)


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("codec", sorted(CODECS))
def test_batches_of_every_codec_are_passed_over(scan: str, codec: str):
    data = memoryview(b"".join(hay(7, codec, offset=7 * number) for number in range(5)))

    passed = batch_scan(NeedleFilter(), native=scan == "native", check_crcs=True).skip_batches(
        TP, data, 0, 0, FAR
    )

    assert (passed.at, passed.searched_to, passed.unread) == (len(data), 35, 35)
    assert passed.searched is None
    assert list(passed.records) == []


@pytest.mark.parametrize("scan", KINDS)
def test_nothing_is_passed_over_once_the_time_is_up(scan: str):
    data = memoryview(hay(7, "zstd"))

    passed = batch_scan(NeedleFilter(), native=scan == "native", check_crcs=True).skip_batches(
        TP, data, 0, 0, monotonic() - 1
    )

    assert (passed.at, passed.unread) == (0, 0)


class TestNative:
    pytestmark = native_only

    def test_it_reads_the_records_in_which_something_stands(self):
        records = [RawRecord(b"hay"), RawRecord(b"a needle", b"k", ((b"h", b"v"), (b"n", None)))]
        data = memoryview(hay(7, "zstd") + batch(section(records), 2, offset=7))

        passed = batch_scan(NeedleFilter(), native=True, check_crcs=True).skip_batches(
            TP, data, 0, 0, FAR
        )
        (found,) = passed.records

        assert (passed.at, passed.searched_to, passed.unread) == (len(data), 9, 8)
        assert (found.topic, found.partition, found.offset) == (*TP, 8)
        assert (found.key, found.value) == (b"k", b"a needle")
        assert found.headers == (("h", b"v"), ("n", None))

    def test_the_filter_sees_its_share_of_the_traffic(self):
        data = memoryview(b"".join(hay(50, "zstd", offset=50 * number) for number in range(20)))
        one = len(section([RawRecord(b"hay %d" % number) for number in range(50)]))
        search = WatchedFilter(unwatched_bytes=0)
        scan = batch_scan(search, native=True, check_crcs=True)

        scan.skip_batches(TP, data, 0, 0, FAR)
        assert (search.seen, search.elsewhere) == ([one] * 20, [])

        search.unwatched_bytes = 3 * one
        passed = scan.skip_batches(TP, data, 0, 0, FAR)
        assert search.elsewhere == [3 * one]
        assert (passed.searched_to, search.unwatched_bytes) == (150, 0)

    def test_texts_that_change_are_followed(self):
        data = memoryview(batch(section([RawRecord(b"needle"), RawRecord(b"thread")]), 2))
        search = NeedleFilter()
        scan = batch_scan(search, native=True, check_crcs=True)

        first = scan.skip_batches(TP, data, 0, 0, FAR)
        search.texts = (b"thread",)
        second = scan.skip_batches(TP, data, 0, 0, FAR)

        assert [r.offset for r in first.records] == [0]
        assert [r.offset for r in second.records] == [1]

    def test_a_batch_larger_than_the_room_makes_room_for_the_next(self):
        large = section([RawRecord(b"hay" * 1000) for _ in range(600)])
        data = memoryview(
            b"".join(
                batch(compress(large, "zstd"), 600, CODECS["zstd"], offset=600 * number)
                for number in range(3)
            )
        )
        scan = batch_scan(NeedleFilter(), native=True, check_crcs=True)
        assert isinstance(scan, NativeScan)
        before = len(scan.decompressor.room)

        first = scan.skip_batches(TP, data, 0, 0, FAR)
        again = scan.skip_batches(TP, data, 0, 0, FAR)

        assert before < len(large) < len(scan.decompressor.room)
        assert first == again
        assert first.unread == 1800

    def test_a_text_that_is_empty_is_refused(self):
        with pytest.raises(ValueError, match="empty"):
            batch_scan(NeedleFilter(texts=(b"",)), native=True, check_crcs=True).skip_batches(
                TP, memoryview(hay(1, "none")), 0, 0, FAR
            )


@pytest.mark.parametrize("scan", KINDS[1:])
@given(
    st.lists(
        st.sampled_from([NEEDLE, b"need", b"le", b"\x02", b"hay", b"nneedleneedle"]), max_size=40
    ),
    st.sampled_from(["none", "lz4", "zstd"]),
    st.integers(1, 6),
)
def test_a_text_belongs_to_the_record_in_which_it_ends(scan, pieces, codec, records):
    """Also one that begins in the record before, in what is no record at all."""
    values = [b"".join(pieces[number::records]) for number in range(records)]
    plain = section([RawRecord(value) for value in values])
    data = memoryview(batch(compress(plain, codec), records, CODECS[codec]))
    needle_filter = NeedleFilter()

    native = batch_scan(needle_filter, native=scan == "native", check_crcs=True).skip_batches(
        TP, data, 0, 0, FAR
    )

    ends = [
        len(section([RawRecord(value) for value in values[: number + 1]]))
        for number in range(records)
    ]
    expected = {
        next(number for number, end in enumerate(ends) if position < end)
        for position in needle_filter.positions(plain)
    }
    assert {record.offset for record in native.records} == expected
    assert native.unread == records - len(expected)

"""Memory is lent again when nobody looks at it any more, and never before."""

from pipeline.stream.transport.buffers import Buffers

MIB = 1 << 20


def test_what_is_lent_is_as_long_as_asked_and_can_be_written():
    buffers = Buffers(2)
    for size in (1, 1000, MIB - 1, MIB, MIB + 1):
        lent = buffers.lend(size)
        assert len(lent) == size
        lent[:] = b"x" * size


def test_memory_is_lent_again_only_when_no_view_of_it_is_left():
    buffers = Buffers(2)
    first = buffers.lend(MIB)
    part = memoryview(first)[10:20]
    part[:] = b"0123456789"
    del first

    while_viewed = buffers.lend(MIB)
    while_viewed[:] = bytes(MIB)
    assert bytes(part) == b"0123456789"

    part[:] = b"abcdefghij"
    del part
    again = buffers.lend(MIB)
    assert bytes(again[10:20]) == b"abcdefghij"


def test_no_more_than_so_many_are_kept_and_larger_ones_replace_those_that_are_too_small():
    buffers = Buffers(2)
    lent = [buffers.lend(MIB) for _ in range(5)]
    assert buffers.kept_bytes == 2 * MIB

    larger = buffers.lend(3 * MIB)
    assert buffers.kept_bytes == 2 * MIB  # all are in use: it is not kept

    del lent, larger
    buffers.lend(3 * MIB)
    assert buffers.kept_bytes == 3 * MIB

    larger = buffers.lend(MIB)  # the smallest that is long enough
    assert buffers.kept_bytes == 3 * MIB
    other = buffers.lend(MIB)
    assert (len(larger), len(other), buffers.kept_bytes) == (MIB, MIB, 4 * MIB)

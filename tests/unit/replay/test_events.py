from __future__ import annotations

import gzip
import io
import os
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
import zstandard

from pipeline.errors import EventsFileError
from pipeline.replay.events import MAX_LINE_BYTES, EventLine, read_events

TEXT = b'{"n":1}\n\n{"n":2}\r\n{"n":3}'
LINES = [b'{"n":1}', b"", b'{"n":2}\r', b'{"n":3}']


def write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def values(*paths: str) -> list[bytes]:
    return [line.value for line in read_events(paths)]


def test_a_plain_file_is_read_line_by_line_with_blank_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "events.ndjson", TEXT)

    assert [EventLine(path, n, value) for n, value in enumerate(LINES, 1)] == list(
        read_events([path])
    )


def test_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, "e.ndjson.gz", gzip.compress(TEXT[:10]) + gzip.compress(TEXT[10:]))

    assert LINES == values(path)


def test_zstd_of_several_frames_is_one_file(tmp_path: Path) -> None:
    packed = zstandard.compress(TEXT[:10]) + zstandard.compress(b"") + zstandard.compress(TEXT[10:])

    assert LINES == values(write(tmp_path, "e.ndjson.zst", packed))


def test_lines_longer_than_a_chunk_are_whole(tmp_path: Path) -> None:
    long = b"x" * 1_000_000

    assert [long, b"y"] == values(write(tmp_path, "e.ndjson", long + b"\ny\n"))
    assert [long, b"y"] == values(
        write(tmp_path, "e.zst", zstandard.compress(long + b"\ny\n")),
    )


def test_files_follow_one_another_and_a_line_does_not_run_over(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a", b"1"), write(tmp_path, "b", b"2\n3")

    assert [(first, 1, b"1"), (second, 1, b"2"), (second, 2, b"3")] == list(
        read_events([first, second])
    )


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT)))

    assert [("-", n, value) for n, value in enumerate(LINES, 1)] == list(read_events(["-"]))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    first = write(tmp_path, "a", b"\xef\xbb\xbf" + TEXT)
    second = write(tmp_path, "b.gz", gzip.compress(b"\xef\xbb\xbf" + TEXT))

    assert values(first, second) == LINES * 2


def test_what_is_in_a_pipe_is_read_before_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as pipe, open(writing, "wb", buffering=0) as writer:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", pipe)
        lines = read_events(["-"])
        for number in (b"1", b"2", b"3"):
            writer.write(number + b"\n")
            assert next(lines).value == number


@pytest.mark.parametrize("name", ["e.gz", "e.zst"])
def test_a_compressed_file_that_breaks_off_is_an_error_with_file_and_line(
    tmp_path: Path, name: str
) -> None:
    noise = b"".join(b"%d %d\n" % (n, n * n * 7919) for n in range(200_000))
    packed = gzip.compress(noise) if name.endswith("gz") else zstandard.compress(noise)
    path = write(tmp_path, name, packed[: len(packed) // 2])

    with pytest.raises(EventsFileError, match=rf"{name}: cannot be read after line \d{{4,}}"):
        values(path)


@pytest.mark.parametrize("name", ["e.gz", "e.zst"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_an_error(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(EventsFileError, match=f"{name}: cannot be read after line 0"):
        values(write(tmp_path, name, b'{"n":1}\n'))


def test_a_missing_file_and_a_folder_are_errors_that_say_so(tmp_path: Path) -> None:
    with pytest.raises(EventsFileError, match="no such file"):
        values(str(tmp_path / "missing"))
    with pytest.raises(EventsFileError, match="is a folder"):
        values(str(tmp_path))


def test_a_line_without_end_is_an_error_before_it_fills_the_memory(tmp_path: Path) -> None:
    packed = zstandard.compress(b"ok\n" + b"x" * (MAX_LINE_BYTES + 300_000))

    with pytest.raises(EventsFileError, match="after line 1: the next line is longer"):
        values(write(tmp_path, "bomb.zst", packed))


@pytest.mark.parametrize("byte", [b"x", b"\n"])
def test_a_compressed_file_is_unpacked_in_pieces_however_small_it_is(
    tmp_path: Path, byte: bytes
) -> None:
    path = write(tmp_path, "e.zst", zstandard.compress(byte * (128 << 20)))
    tracemalloc.start()
    try:
        lines = islice(read_events([path]), 1_000)
        if byte == b"x":
            with pytest.raises(EventsFileError, match="longer than"):
                next(lines)
        else:
            assert sum(line.value == b"" for line in lines) == 1_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 64 << 20

"""Reads files of events: one JSON document per line, plain, gzip or zstd."""

from __future__ import annotations

import gzip
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Final, NamedTuple, Protocol, cast

import zstandard

from pipeline.errors import EventsFileError
from pipeline.record import NO_TIMESTAMP, Position, Record

STDIN: Final = "-"
MAX_LINE_BYTES: Final = 16 * 1_048_576
"""The longest line that is read at all; the decoder's own limit is far lower."""

_CHUNK_BYTES: Final = 262_144
# How many compressed bytes are decompressed at a time. Four bytes may expand to 128 KiB, and the
# result is held in memory.
_ZSTD_PIECE_BYTES: Final = 512


class EventLine(NamedTuple):
    """One line of an events file.

    Attributes:
        path: the file as given; ``-`` is standard input.
        line: the line's number in that file, from 1.
        value: its bytes, without the line feed.
    """

    path: str
    line: int
    value: bytes


def record_of_line(line: EventLine, offset: int, arrival_ms: int) -> Record:
    """Return a line as a record: its topic is the file's name, its partition 0.

    Args:
        line: the line.
        offset: its number over all files, from 0.
        arrival_ms: when it counts as having arrived, epoch milliseconds.
    """
    topic = "stdin" if line.path == STDIN else PurePath(line.path).name
    return Record(
        position=Position(topic, 0, offset),
        key=None,
        value=line.value,
        headers=(),
        timestamp_ms=NO_TIMESTAMP,
        arrival_ms=arrival_ms,
    )


def read_events(paths: Iterable[str | Path]) -> Iterator[EventLine]:
    """Yield the lines of events files, one file after another, including blank lines.

    The file name determines the compression: ``.gz`` and ``.zst`` (with any number of members or
    frames); anything else is read as it is.

    Args:
        paths: the files; ``-`` is standard input.

    Raises:
        EventsFileError: a file cannot be opened, or is truncated; it names the file and the line.
    """
    for path in map(str, paths):
        number = 0
        try:
            for number, value in enumerate(_lines(_chunks(path)), 1):
                # Editors on Windows write a byte order mark, which JSON does not allow.
                line = value.removeprefix(BOM_UTF8) if number == 1 else value
                yield EventLine(path, number, line)
        except FileNotFoundError as error:
            raise EventsFileError(f"{path}: there is no such file") from error
        except IsADirectoryError as error:
            raise EventsFileError(f"{path}: is a folder; give the files in it") from error
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise EventsFileError(f"{path}: cannot be read after line {number}: {error}") from error


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        # find, not split: a chunk that consists of line feeds would become a list of millions.
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            line = chunk[start:end]
            start = end + 1
            if parts:
                line = b"".join((*parts, line))
                parts.clear()
                size = 0
            yield line
        parts.append(chunk[start:])
        size += len(chunk) - start
        if size > MAX_LINE_BYTES:
            raise OSError(f"the next line is longer than {MAX_LINE_BYTES} bytes")
    if size:
        yield b"".join(parts)


def _chunks(path: str) -> Iterator[bytes]:
    if path == STDIN:
        yield from _plain(cast("_Reader", sys.stdin.buffer))
        return
    with Path(path).open("rb") as file:
        if path.endswith(".zst"):
            yield from _zstd(file)
        elif path.endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from _plain(unpacked)
        else:
            yield from _plain(file)


class _Reader(Protocol):
    """A file that can return whatever is available."""

    def read1(self, size: int, /) -> bytes: ...


def _plain(file: _Reader) -> Iterator[bytes]:
    # Whatever is available, however little, so that a pipe written line by line is read at once.
    while chunk := file.read1(_CHUNK_BYTES):
        yield chunk


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    """Decompress frame by frame, so that a truncated frame is an error, not the end."""
    decompressor = zstandard.ZstdDecompressor()
    frame = None
    while packed := file.read(_CHUNK_BYTES):
        position = 0
        while position < len(packed):
            frame = frame or decompressor.decompressobj()
            piece = packed[position : position + _ZSTD_PIECE_BYTES]
            yield frame.decompress(piece)
            position += len(piece)
            if frame.eof:
                position -= len(frame.unused_data)
                frame = None
    if frame is not None:
        raise EOFError("the compressed data breaks off")

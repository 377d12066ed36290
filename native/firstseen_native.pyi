"""What firstseen does to nearly all that it reads: its search of batches, its look at events."""

from collections.abc import Sequence
from typing import TypeAlias, final

from typing_extensions import Buffer

Row: TypeAlias = tuple[
    int, int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]
]
"""A record: offset, timestamp in milliseconds, its type, key, value, headers."""

@final
class Scan:
    """Searches batches for texts. Not for two threads at once."""

    def __new__(cls, texts: Sequence[bytes]) -> Scan:
        """Prepare a search.

        Args:
            texts: what to look for, exactly as it stands there.

        Raises:
            ValueError: a text is empty.
        """

    def pass_over(
        self,
        data: Buffer,
        at: int,
        searched_to: int,
        room: bytearray,
        most_bytes: int,
        seconds: float,
        check_crcs: bool,
    ) -> tuple[int, int, int, int, int, list[Row] | None]:
        """Pass over batches up to one in which a text stands, without the interpreter's lock.

        It ends before a batch that is not quickly read: of another format than 2 or another codec
        than none, lz4 and zstd, of a transaction, cut off, damaged, larger than `room`, with
        offsets below `searched_to`, or with records that are not as they should be.

        Args:
            data: batches, one after the other; nobody writes there meanwhile.
            at: where the first one starts.
            searched_to: offset of the first record that is wanted.
            room: for one batch, decompressed; for this call alone.
            most_bytes: ends after so many bytes, decompressed.
            seconds: ends after so long.
            check_crcs: whether checksums are compared.

        Returns:
            Where the first batch starts that is not done; the offset behind what is done; how many
            records were passed over; the latest timestamp of what is done, -1 if nothing is; how
            many bytes were searched; and the records in which a text ends of the last batch, None
            if there is no such batch.

        Raises:
            BufferError: `data` or `room` is no plain memory, or `room` is read-only.
        """

Taken: TypeAlias = tuple[bytes, str | None, str | None, tuple[str | None, ...]]
"""What was taken; the texts of the event's time and of its id; the texts that are told apart."""

@final
class Projection:
    """Takes of an event what some fields can depend on."""

    def __new__(
        cls,
        fields: Sequence[str],
        apart: Sequence[str],
        time: str,
        event_id: str,
        unexpected: Sequence[str],
        max_depth: int,
        max_values: int,
    ) -> Projection:
        """Prepare it.

        Args:
            fields: dotted paths; none is one of `apart`, or leads to one.
            apart: paths of more fields, of which a text of at most 256 bytes is told apart, and
                only what else may stand there is taken.
            time: path of the field of the time, of which the text is told and not taken.
            event_id: path of the field of the event's id, of which the text is told and not taken.
            unexpected: paths that events are not expected to have.
            max_depth: levels of objects and arrays in an event, at most.
            max_values: values in an event, keys and elements at all levels, at most.
        """

    def take(self, event: bytes) -> Taken | None:
        """Take of a JSON object all that stands at one of the fields, leads there or goes on below.

        Two events of which the same is taken and told differ in nothing that is read of these
        fields. A text that is told is the only value at its path.

        Returns:
            A text that is not there is None. No tuple if the event is not plain: no object from its
            first byte on, no JSON, with more than it may have, with keys given twice or escaped,
            surrogates, exponents or long numbers, with an unexpected field, with a time or an id
            that is no text, or with two values at a field that is told apart.
        """

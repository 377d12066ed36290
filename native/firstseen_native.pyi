"""What firstseen does to nearly every record, in the case that nearly every record is."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, final

from typing_extensions import Buffer

SHARED: dict[str, int]
"""Numbers that stand in Python too, by what they are."""

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

    def skip_batches(
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

@final
class Forwarded:
    """What was forwarded lately; `pipeline.engine.forwarded.ForwardedCache` says why."""

    def __new__(cls, max_entries: int, granularity_ms: int) -> Forwarded: ...
    def covers(
        self,
        key: bytes,
        window_ms: int,
        time_ms: int,
        read_ms: int,
        topic: str,
        partition: int,
        offset: int,
        index: int,
    ) -> bool:
        """Return whether a sighting is covered by one forwarded before."""

    def remember(
        self,
        key: bytes,
        time_ms: int,
        read_ms: int,
        topic: str,
        partition: int,
        offset: int,
        index: int,
    ) -> None:
        """Note that a sighting is forwarded."""

    def clear(self) -> None:
        """Forget everything."""

    def __len__(self) -> int: ...

Spelled: TypeAlias = tuple[bytes, bytes]
"""A value as hashes are made of it, and as it is sent."""

class TextLeaf(Protocol):
    """See `pipeline.kql.text_tests.TextLeaf`."""

    @property
    def caseless(self) -> bool: ...
    @property
    def ignore_above(self) -> int | None: ...
    @property
    def exact(self) -> frozenset[str]: ...
    @property
    def patterns(self) -> Sequence[Sequence[str]]: ...
    @property
    def anything(self) -> bool: ...

class TextJunction(Protocol):
    """See `pipeline.kql.text_tests.TextJunction`."""

    @property
    def is_any(self) -> bool: ...
    @property
    def is_negated(self) -> bool: ...
    @property
    def children(self) -> Sequence[TextLeaf | TextJunction]: ...

@final
class TextClasses:
    """Says which texts of a field are the same to all rules, of texts of printable ASCII."""

    def __new__(
        cls, tests: Sequence[TextLeaf | TextJunction], ways: Sequence[tuple[bool, int | None]]
    ) -> TextClasses:
        """Prepare it.

        Args:
            tests: what the rules ask of the text.
            ways: how it is indexed: whether in lower case, and the length above which it is not.
        """

    def of(self, written: str) -> tuple[bytes, list[Spelled | None]] | None:
        """Return the class of a text and the terms that it is indexed as.

        Args:
            written: the text as in JSON, without its quotes.

        Returns:
            What `pipeline.engine.alike.TextClasses.of` does of the text; None of another text.
        """

class Rule(Protocol):
    """A rule, as far as its sightings depend on it."""

    @property
    def history(self) -> bytes:
        """Id of its history: eight bytes."""
    @property
    def window_ms(self) -> int:
        """Length of the history."""
    @property
    def opening(self) -> bytes:
        """How its observations begin, up to their terms."""
    @property
    def id_opening(self) -> bytes:
        """How what the ids of its alerts are made of begins, up to the terms."""
    @property
    def apart(self) -> Sequence[tuple[int, int, int]]:
        """Of its terms that are told apart: which term, which text, which of its spellings."""

class Limits(Protocol):
    """See `pipeline.engine.verdicts.Limits`."""

    @property
    def verdicts(self) -> int: ...
    @property
    def texts(self) -> int: ...
    @property
    def text_bytes(self) -> int: ...
    @property
    def event_bytes(self) -> int: ...
    @property
    def value_bytes(self) -> int: ...
    @property
    def term_bytes(self) -> int: ...
    @property
    def future_ms(self) -> int: ...
    @property
    def round(self) -> int: ...
    @property
    def rare(self) -> int: ...
    @property
    def rest(self) -> int: ...

@final
class Verdicts:
    """Remembers what rules said of events. Not for two threads at once."""

    def __new__(
        cls,
        projection: Projection,
        texts: Sequence[
            tuple[Callable[[str], tuple[bytes, list[Spelled | None]]], bytes, TextClasses | None]
        ],
        rules: Sequence[Rule],
        forwarded: Forwarded,
        usable_time: Callable[[str], int | None],
        spelled_id: Callable[[str], Spelled],
        key: bytes,
        limits: Limits,
    ) -> Verdicts:
        """Prepare it.

        Args:
            projection: what is taken of events.
            texts: by field that it tells apart: what returns the class of a text and its spellings,
                the class where there is none, and what says it of most texts. Classes of a field
                have one length.
            rules: the rules that see terms.
            forwarded: what was forwarded lately.
            usable_time: returns the time that a text stands for, if it can be that of an event;
                asked of what is not spelled as usual.
            spelled_id: returns what stands for an event's id; asked of unusual ones.
            key: of the digests, 1 to 64 bytes.
            limits: what bounds it.

        Raises:
            ValueError: the key has another length.
        """

    def judge(
        self, records: list[Any], start: int, topic: str, partition: int, read_ms: int
    ) -> tuple[int, bool, bool, list[tuple[Any, int]], list[tuple[bytes, bytes]], int, list[float]]:
        """Judge records of a partition up to the first one of which no match is known.

        Or as far as it takes to have a megabyte to send.

        Args:
            records: have an offset, a timestamp, its type, and a value.
            start: number of the first one.
            topic: their topic.
            partition: their partition.
            read_ms: when they were read.

        Returns:
            The fields of `pipeline.engine.verdicts.Known`.
        """

    def remember(
        self, event: bytes, said: Any, matches: bool, sighted: list[tuple[int, list[Spelled]]]
    ) -> None:
        """Remember what was said of an event, if it can be read.

        Args:
            event: the event.
            said: what is told of all that read alike.
            matches: whether a rule matches them.
            sighted: the tuples that rules saw, each with the number of the rule.

        Raises:
            ValueError: there is no rule of this number.
        """

    def digest_of(self, event: bytes) -> bytes | None:
        """Return what stands for all that the rules can depend on; None if it cannot be read."""

    def __len__(self) -> int: ...

class Table(Protocol):
    """Rows by key."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...

@final
class Sightings:
    """Observes sightings of tuples that are known, and stay so."""

    def __new__(cls) -> Sightings: ...
    def note_opening(self, opening: bytes, history: bytes, window_ms: int) -> None:
        """Learn how observations of a history begin; those of which that is not known are left.

        What is noted is bounded, and may be dropped. A very long text is not noted.

        Args:
            opening: their text up to the terms.
            history: id of the history: eight bytes.
            window_ms: its length, as the text says.
        """

    def observe(
        self,
        records: list[Any],
        start: int,
        committed: int,
        table: Table,
        others: set[bytes],
        clock_ms: int | None,
    ) -> tuple[int, int | None, bool]:
        """Observe sightings up to one that may say more than that its tuple was seen again.

        Args:
            records: consecutive observations of a partition: each has a key, a value, an offset.
            start: number of the first one.
            committed: see `pipeline.engine.first_seen.FirstSeen.observe`.
            table: the rows.
            others: histories that are left alone.
            clock_ms: what the event clock says.

        Returns:
            How many were observed; what the event clock says then; whether the next one is left
            because it is not known how it begins.
        """

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

@final
class OutgoingBatch:
    """A record batch that is filled, then sent."""

    def __new__(cls, max_bytes: int) -> OutgoingBatch:
        """Begin a batch.

        Args:
            max_bytes: how large it may be before it is compressed; one record always fits.
        """

    def extend(
        self,
        records: list[tuple[bytes | None, bytes | None, Headers]],
        start: int,
        timestamp_ms: int,
    ) -> int:
        """Add records, as many as there is room for, and return how many it was.

        Args:
            records: key, value and headers of each.
            start: number of the first one.
            timestamp_ms: the timestamp of all of them.
        """

    @property
    def size(self) -> int:
        """How large it is before it is compressed."""

    def __len__(self) -> int: ...
    def build(self, producer_id: int, producer_epoch: int, base_sequence: int, level: int) -> bytes:
        """Return the batch, compressed with zstd at a level if that makes it smaller.

        Raises:
            ValueError: it has 2 GiB or more.
        """

"""What firstseen does to nearly every record, for the common case."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, final

from typing_extensions import Buffer

SHARED: dict[str, int]
"""Constants that Python has as well, by name."""

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
            texts: the texts to search for, case-sensitive.

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
        """Skip batches up to one that contains a text, without the interpreter's lock.

        It stops before a batch that is not a simple case: one of a format other than 2, with a
        codec other than none, lz4 and zstd, of a transaction, cut off, damaged, larger than `room`,
        with offsets below `searched_to`, or with malformed records.

        Args:
            data: batches, one after another; nobody writes to it during the call.
            at: the start of the first batch.
            searched_to: the offset from which on records are wanted.
            room: memory for one decompressed batch; nobody else uses it during the call.
            most_bytes: stop after this many decompressed bytes.
            seconds: stop after this time.
            check_crcs: whether checksums are compared.

        Returns:
            The start of the first batch that is not done; the offset after what is done; the number
            of records dropped unread; the latest timestamp of what is done, -1 if nothing is; the
            number of bytes searched; and, of the last batch, the records in which a text ends, None
            if no batch contains one.

        Raises:
            BufferError: `data` or `room` is no plain memory, or `room` is read-only.
        """

Taken: TypeAlias = tuple[bytes, str | None, str | None, tuple[str | None, ...]]
"""What was taken; the texts of the event's time and of its id; the texts that are set apart."""

@final
class Projection:
    """Takes from an event what some fields can depend on."""

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
        """Prepare to read events.

        Args:
            fields: dotted paths; none is one of `apart`, or leads to one.
            apart: the paths of more fields. A text of at most 256 bytes there is set apart: it is
                returned separately. Any other value there is taken.
            time: the path of the field of the time, whose text is returned and not taken.
            event_id: the path of the field of the event's id, whose text is returned and not taken.
            unexpected: paths that events are not expected to have.
            max_depth: the maximum number of levels of objects and arrays in an event.
            max_values: the maximum number of values in an event: keys and elements, at all levels.
        """

    def take(self, event: bytes) -> Taken | None:
        """Take every value of a JSON object that is at one of the fields, leads there or is below.

        If the same is returned for two events, they are the same to any reader of these fields. A
        text that is returned separately is the only value at its path.

        Returns:
            None if the event is not plain: its first byte does not begin an object, it is not JSON,
            exceeds a limit, has keys that are given twice or escaped, surrogates, exponents or long
            numbers, has an unexpected field, a time or an id that is not a text, or two values at a
            field that is set apart. A text that is missing is None.
        """

@final
class Forwarded:
    """What was forwarded lately; see `pipeline.engine.forwarded.ForwardedCache`."""

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
        """Return whether a sighting is covered by one that was forwarded before."""

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
"""A value in two encodings: as it is hashed, and as it is sent."""

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
    """Assigns texts of printable ASCII to classes; all rules treat the texts of a class alike."""

    def __new__(
        cls, tests: Sequence[TextLeaf | TextJunction], ways: Sequence[tuple[bool, int | None]]
    ) -> TextClasses:
        """Prepare to answer.

        Args:
            tests: what the rules test about the text.
            ways: how the text is indexed: whether in lower case, and the length above which it is
                not indexed.
        """

    def of(self, written: str) -> tuple[bytes, list[Spelled | None]] | None:
        """Return the class of a text and the terms that it is indexed as.

        Args:
            written: the text as JSON spells it, without its quotes.

        Returns:
            The result of `pipeline.engine.alike.TextClasses.of`; None for a text that is not
            printable ASCII.
        """

class Rule(Protocol):
    """The part of a rule that its sightings depend on."""

    @property
    def history(self) -> bytes:
        """The id of its history: eight bytes."""
    @property
    def window_ms(self) -> int:
        """The length of the history, in milliseconds."""
    @property
    def opening(self) -> bytes:
        """The beginning of its observations, up to their terms."""
    @property
    def id_opening(self) -> bytes:
        """The beginning of the text that its alert ids are hashes of, up to the terms."""
    @property
    def apart(self) -> Sequence[tuple[int, int, int]]:
        """Its terms that are set apart, see `pipeline.engine.alike.ApartTerm`."""

class CacheSettings(Protocol):
    """See `pipeline.engine.verdicts.CacheSettings`."""

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
    """A cache of verdicts on events. Not for two threads at once."""

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
        settings: CacheSettings,
    ) -> Verdicts:
        """Prepare an empty cache.

        Args:
            projection: what is taken from events.
            texts: for each field that it sets apart: a function that returns the class of a text
                and its terms, the class of an event without a text, and what knows the class of
                most texts without Python. All classes of a field have the same length.
            rules: the rules that have terms.
            forwarded: what was forwarded lately.
            usable_time: returns the time that a text stands for, if an event can have that time;
                called for texts of an unusual form.
            spelled_id: returns an event's identity, given its id; called for unusual ids.
            key: the key of the digests, 1 to 64 bytes.
            settings: what is kept, and when the cache rests.

        Raises:
            ValueError: the key has another length.
        """

    def judge(
        self, records: list[Any], start: int, topic: str, partition: int, read_ms: int
    ) -> tuple[int, bool, bool, list[tuple[Any, int]], list[tuple[bytes, bytes]], int, list[float]]:
        """Judge records of a partition up to the first one that is not known to match.

        It also stops once there is a megabyte to send.

        Args:
            records: each has an offset, a timestamp, a timestamp type and a value.
            start: the index of the first one.
            topic: their topic.
            partition: their partition.
            read_ms: when they were read, epoch milliseconds.

        Returns:
            The fields of `pipeline.engine.verdicts.KnownRun`.
        """

    def remember(
        self, event: bytes, outcome: Any, matches: bool, tuples: list[tuple[int, list[Spelled]]]
    ) -> None:
        """Remember the verdict on an event, unless the event is written in an unusual way.

        Args:
            event: the event.
            outcome: what `judge` returns for all events that read alike.
            matches: whether a rule matches them.
            tuples: the term tuples that rules saw, each with the number of the rule.

        Raises:
            ValueError: there is no rule with this number.
        """

    def digest_of(self, event: bytes) -> bytes | None:
        """Return a digest that events share if they read alike; None if this one is not plain."""

    def __len__(self) -> int: ...

class Table(Protocol):
    """Rows by key."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...

@final
class Sightings:
    """Observes sightings of tuples that are known and stay known."""

    def __new__(cls) -> Sightings: ...
    def note_opening(self, opening: bytes, history: bytes, window_ms: int) -> None:
        """Note how observations of a history begin. Others are left to the caller.

        The memory for this is bounded, so what was noted may be dropped. A very long text is not
        noted.

        Args:
            opening: the text of the observations, up to the terms.
            history: the id of the history: eight bytes.
            window_ms: the length of the history, as in the text.
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
        """Observe sightings up to one that may be more than a repeat of a known tuple.

        Args:
            records: consecutive observations of a partition; each has a key, a value and an offset.
            start: the index of the first one.
            committed: see `pipeline.engine.first_seen.FirstSeen.observe`.
            table: the rows.
            others: histories that are left to the caller.
            clock_ms: the event clock, epoch milliseconds.

        Returns:
            The number of sightings observed; the event clock after them; whether the next one is
            left to the caller because its beginning has not been noted.
        """

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

@final
class OutgoingBatch:
    """A record batch that is filled and then sent."""

    def __new__(cls, max_bytes: int) -> OutgoingBatch:
        """Begin a batch.

        Args:
            max_bytes: its maximum size before compression; the first record always fits.
        """

    def extend(
        self,
        records: list[tuple[bytes | None, bytes | None, Headers]],
        start: int,
        timestamp_ms: int,
    ) -> int:
        """Add as many records as fit, and return how many were added.

        Args:
            records: key, value and headers of each.
            start: the index of the first one.
            timestamp_ms: the timestamp of all of them.
        """

    @property
    def size(self) -> int:
        """Its size before compression, in bytes."""

    def __len__(self) -> int: ...
    def build(self, producer_id: int, producer_epoch: int, base_sequence: int, level: int) -> bytes:
        """Return the batch, compressed with zstd at this level if that makes it smaller.

        Raises:
            ValueError: it has 2 GiB or more.
        """

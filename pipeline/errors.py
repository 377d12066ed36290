"""The errors that firstseen raises on purpose.

::

    FirstseenError
    ├── ConfigError                 exit 3: a setting or topic file is wrong
    │   ├── SettingsError
    │   ├── FieldTypesError         a field table that says something impossible
    │   ├── TopicSpecError
    │   ├── StateInUseError         another worker has the state folder
    │   └── StateOwnerError         the state folder belongs to another group or cluster
    ├── QueryError                  a KQL text, with the span to put the caret under
    │   ├── QuerySyntaxError
    │   ├── QueryTypeError          a literal that the field's type refuses
    │   └── QueryLimitError         nested too deeply, too many clauses or patterns
    ├── UnmappedFieldError          a field without terms: not in the table, or of a type without
    ├── RuleError                   exit 4: no rule can be used, or none with the id asked for
    ├── RecordError                 -> dead letter; never stops the worker
    │   ├── DecodeError             too_large, invalid_utf8, invalid_json, duplicate_key, …
    │   ├── TimestampError          missing_timestamp, invalid_timestamp
    │   └── TooCostlyError          judging it would take longer than a worker may be blocked
    ├── EventsFileError             exit 2: an events file that cannot be read
    ├── StateError                  exit 5: a table that cannot be read or written
    │   └── SourceChangedError      its rows hold offsets of a topic that was created anew since
    ├── BrokerError                 exit 4: no broker, no topic, wrong partition count
    │   ├── BrokerUnreachableError
    │   └── TopologyError
    ├── DeliveryError               exit 5: an output was not acknowledged; offsets not committed
    ├── DeadLetterLimitError        exit 5: too many bad records in a row, or too large a share
    ├── StallError                  exit 5: records wait, brokers answer, nothing is committed
    └── StopError                   exit 5: told to stop, but could not finish and commit in time

The exit code of all others is 1. `pipeline.rules.filter_clauses` has one more,
`UnsupportedFilterError`, which becomes an issue of its rule.

Each class has a stable ``code`` (snake_case): it is the label in metrics and logs, and the anchor
in docs/reference/errors.md. For a `RecordError`, its ``reason`` takes the place of the code in
metrics, in logs and in the header of its dead letter. The root derives from ``Exception``, so that
``except ValueError`` never catches one of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_CANNOT_START = 4
EXIT_STOPPED = 5


class FirstseenError(Exception):
    """Root of all errors raised on purpose; the message says what, where and what to do."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = EXIT_FINDINGS


class ConfigError(FirstseenError):
    code = "config"
    exit_code = EXIT_CONFIG


class SettingsError(ConfigError):
    code = "settings"


class FieldTypesError(ConfigError):
    code = "field_types"


class TopicSpecError(ConfigError):
    code = "topic_spec"


class StateInUseError(ConfigError):
    code = "state_in_use"


class StateOwnerError(ConfigError):
    code = "state_owner"


_CONTEXT = 70
"""How many characters of a line `QueryError` shows on each side of the caret."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters ``[start, end)`` in a query text."""

    start: int
    end: int


class QueryError(FirstseenError):
    """A KQL text that cannot be used.

    ``str(error)`` is the message, then the offending line with a caret under the span, then the
    hint, if there is one.
    """

    code = "query"

    def __init__(self, message: str, *, text: str, span: Span, hint: str | None = None) -> None:
        self.message = message
        self.text = text
        self.span = span
        self.hint = hint
        super().__init__(message)

    @property
    def line(self) -> int:
        """The 1-based line of the span's start."""
        return self.text.count("\n", 0, self.span.start) + 1

    @property
    def column(self) -> int:
        """The 1-based column of the span's start."""
        return self.span.start - (self.text.rfind("\n", 0, self.span.start) + 1) + 1

    def __str__(self) -> str:
        lines = self.text.split("\n")
        line = lines[self.line - 1] if self.line <= len(lines) else ""
        # A rule's query can be one line of thousands of characters, so show only the relevant part.
        first = max(0, self.column - 1 - _CONTEXT)
        shown_line = line[first : self.column - 1 + _CONTEXT]
        before = shown_line[: self.column - 1 - first]
        # A tab stays a tab in the caret line, so that the caret is in the right place.
        pad = "".join("\t" if c == "\t" else " " for c in before)
        room = max(1, len(shown_line) - len(before))
        width = max(1, min(self.span.end - self.span.start, room))
        shown = [f"{self.message} (line {self.line}, column {self.column})"]
        shown += [f"    {shown_line}", f"    {pad}{'^' * width}"]
        if self.hint:
            shown.append(f"hint: {self.hint}")
        return "\n".join(shown)


class QuerySyntaxError(QueryError):
    code = "query_syntax"


class QueryTypeError(QueryError):
    code = "query_type"


class QueryLimitError(QueryError):
    code = "query_limit"


class UnmappedFieldError(FirstseenError):
    """A field whose terms cannot be read: not in the field table, or of a type without terms."""

    code = "unmapped_field"


class RuleError(FirstseenError):
    """Rules that cannot be loaded at all, or not found; a finding is a `pipeline.rules.Issue`."""

    code = "rule"
    exit_code = EXIT_CANNOT_START


class RecordError(FirstseenError):
    """A record that cannot be processed: it becomes a dead letter with ``reason`` as its code."""

    code = "record"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class DecodeError(RecordError):
    code = "decode"


class TimestampError(RecordError):
    code = "timestamp"


class TooCostlyError(RecordError):
    """Judging the record would take longer than a worker may be blocked."""

    code = "cost"


class EventsFileError(FirstseenError):
    code = "events_file"
    exit_code = EXIT_USAGE


class StateError(FirstseenError):
    code = "state"
    exit_code = EXIT_STOPPED


class SourceChangedError(StateError):
    code = "source_changed"


class BrokerError(FirstseenError):
    code = "broker"
    exit_code = EXIT_CANNOT_START


class BrokerUnreachableError(BrokerError):
    code = "broker_unreachable"


class TopologyError(BrokerError):
    code = "topology"


class DeliveryError(FirstseenError):
    """An output was not acknowledged.

    Attributes:
        topic: the topic it was for, if the worker wrote it.
    """

    code = "delivery"
    exit_code = EXIT_STOPPED

    def __init__(self, message: str, *, topic: str | None = None) -> None:
        self.topic = topic
        super().__init__(message)


class DeadLetterLimitError(FirstseenError):
    code = "dead_letter_limit"
    exit_code = EXIT_STOPPED


class StallError(FirstseenError):
    code = "stalled"
    exit_code = EXIT_STOPPED


class StopError(FirstseenError):
    code = "stop"
    exit_code = EXIT_STOPPED

"""Dead letters: records that could not be processed, kept whole, and the limit on their number."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from itertools import islice, repeat

from pipeline import __version__
from pipeline.config import Settings
from pipeline.errors import DeadLetterLimitError
from pipeline.kafka.headers import DeadLetter, encode_dead_letter, next_attempt
from pipeline.record import Record
from pipeline.stream.outbox import Acknowledgement, Outbox
from pipeline.telemetry.metrics import Metrics


class DeadLetters:
    """Writes dead letters through the outbox, so that commits wait for them.

    Too many in a row, or too large a share of the latest records, means that the input or the
    configuration is wrong, and not a single record. The worker then stops, rather than drain its
    whole input into the dead letter topic.
    """

    def __init__(
        self, outbox: Outbox, settings: Settings, ruleset_digest: str, metrics: Metrics
    ) -> None:
        self._outbox = outbox
        self._topic = settings.topics.dead_letters
        self._group_id = settings.kafka.group_id
        self._digest = ruleset_digest
        self._limits = settings.dead_letters
        self._max_bytes = settings.kafka.message_max_bytes
        self._metrics = metrics
        self._consecutive = 0
        self._latest: deque[bool] = deque(maxlen=self._limits.ratio_records)
        self._bad_among_latest = 0

    async def write(
        self, record: Record, *, code: str, stage: str, text: str, rule_id: str | None = None
    ) -> None:
        """Send one record to the dead letter topic, with its position and the reason."""
        letter = DeadLetter(
            key=record.key,
            value=record.value,
            headers=record.headers,
            position=record.position,
            timestamp_ms=record.timestamp_ms,
            code=code,
            stage=stage,
            message=text,
            rule_id=rule_id,
            group_id=self._group_id,
            version=__version__,
            ruleset=self._digest,
            attempt=next_attempt(record.headers),
            failed_at=datetime.now(UTC),
        )
        encoded = encode_dead_letter(
            letter,
            max_record_bytes=self._max_bytes,
            max_value_bytes=self._limits.max_value_bytes,
        )

        def acknowledged(_: Acknowledgement) -> None:
            self._metrics.dead_letters.labels(record.position.topic, code).inc()

        # The letter does not get the record's own timestamp, which is kept in a header. With it,
        # the letter of an old record would be old already, and retention would delete it before
        # anybody sees it.
        await self._outbox.send(
            self._topic,
            key=encoded.key,
            value=encoded.value,
            headers=encoded.headers,
            on_acknowledged=acknowledged,
        )
        self._metrics.errors.labels(stage, code).inc()

    def count_good(self, records: int) -> None:
        """Count several good records at once."""
        if records > 0:
            self._consecutive = 0
            length = self._limits.ratio_records
            records = min(records, length)
            pushed_out = max(0, len(self._latest) + records - length)
            self._bad_among_latest -= sum(islice(self._latest, pushed_out))
            self._latest.extend(repeat(False, records))

    def count(self, *, bad: bool) -> None:
        """Count one input record as good or bad.

        Raises:
            DeadLetterLimitError: there are too many bad ones.
        """
        self._consecutive = self._consecutive + 1 if bad else 0
        self._remember(bad=bad)
        limits = self._limits
        if limits.max_consecutive is not None and self._consecutive >= limits.max_consecutive:
            raise DeadLetterLimitError(
                f"{self._consecutive} records in a row could not be processed; look at "
                f"{self._topic}, fix the input or raise dead_letters.max_consecutive"
            )
        full = len(self._latest) == self._latest.maxlen
        if limits.max_ratio is not None and full:
            ratio = self._bad_among_latest / len(self._latest)
            if ratio > limits.max_ratio:
                raise DeadLetterLimitError(
                    f"{ratio:.0%} of the last {len(self._latest)} records could not be processed; "
                    f"look at {self._topic}, fix the input or raise dead_letters.max_ratio"
                )

    def _remember(self, *, bad: bool) -> None:
        if len(self._latest) == self._latest.maxlen:
            self._bad_among_latest -= self._latest[0]
        self._latest.append(bad)
        self._bad_among_latest += bad

"""Every metric of firstseen: the one place where a name, a label or a bucket is written.

The registry, the reference page, the dashboards and the alert rules are built from or checked
against this list. Labels are bounded: topics, partitions, rule ids, codes of ours; never a field of
an event, a host, a user, a path, the text of an exception or an offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PREFIX = "firstseen_"

WORKER_STATES = ("starting", "joining", "recovering", "running", "draining", "failed")
OUTCOMES = ("skipped", "no_match", "matched", "dead_letter")
SEVERITIES = ("low", "medium", "high", "critical")
TABLES = ("first-seen", "quota")
RULE_STATUSES = ("enabled", "disabled", "skipped", "invalid")

# From a fast hand-over to a backlog of an hour; the alerting threshold of 60 s is one of them.
LATENCY_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
# A shipper that was offline for days sends old events: the tail is long.
AGE_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400, 604_800)
WORK_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: full name, with unit and (for counters) ``_total``.
        kind: its Prometheus type.
        help: what it says, in one sentence.
        labels: names of its labels, in order.
        known: values of labels known in advance. Where all labels have some, their series are
            exported as 0 from the start, so that a rate over them is never missing.
        buckets: upper bounds of a histogram, in its unit.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str, **known: tuple[str, ...]) -> MetricSpec:
    return MetricSpec(f"{PREFIX}{name}", "counter", text, labels, known)


def _gauge(name: str, text: str, *labels: str, **known: tuple[str, ...]) -> MetricSpec:
    return MetricSpec(f"{PREFIX}{name}", "gauge", text, labels, known)


def _histogram(name: str, text: str, buckets: tuple[float, ...]) -> MetricSpec:
    return MetricSpec(f"{PREFIX}{name}", "histogram", text, buckets=buckets)


BUILD_INFO = _gauge("build_info", "Always 1; its labels name the version.", "version", "python")
WORKER_STATE = _gauge(
    "worker_state", "1 for the state the worker is in, otherwise 0.", "state", state=WORKER_STATES
)
READY = _gauge("ready", "1 while /readyz reports ready, otherwise 0.")
LOOP_HEARTBEAT = _gauge("loop_heartbeat_timestamp_seconds", "When the event loop last ran.")
RULESET_INFO = _gauge(
    "ruleset_info", "Always 1; its label is the digest of the rules in use.", "digest"
)
RULES_LOADED = _gauge("rules_loaded", "Rules by status.", "status", status=RULE_STATUSES)

RECORDS_CONSUMED = _counter("records_consumed_total", "Records read from an input topic.", "topic")
RECORDS_LOST = _counter(
    "records_lost_total", "Records that were deleted before they were read, and so never judged. "
    "Offsets that hold no record are counted as well.", "topic",
)  # fmt: skip
RECORDS_PROCESSED = _counter(
    "records_processed_total", "Records of an input topic by outcome.", "topic", "outcome",
    outcome=OUTCOMES,
)  # fmt: skip
EVENTS_DECODED = _counter(
    "events_decoded_total", "Events decoded, after the filters on raw bytes.", "topic"
)
EVENT_AGE = _histogram(
    "event_age_seconds", "Age of a matching event when its sighting was forwarded: the "
    "shipper's delay.",
    AGE_BUCKETS,
)  # fmt: skip
EVENTS_FUTURE = _counter(
    "events_future_total", "Matching events dated too far in the future, whose time was capped."
)
EVENTS_UNTIMED = _counter(
    "events_untimed_total", "Matching events without a usable time of their own, which got "
    "the time of the record.", "reason", reason=("missing_timestamp", "invalid_timestamp"),
)  # fmt: skip
EVENTS_WITHOUT_TUPLE = _counter(
    "events_without_tuple_total", "Matching events without a value in one of the new-terms fields."
)
RULE_MATCHES = _counter("rule_matches_total", "Events that a rule's query matched.", "rule_id")
RULE_ERRORS = _counter(
    "rule_errors_total",
    "Evaluations that failed; the other rules were not affected.",
    "rule_id",
    "code",
)

OBSERVATIONS = _counter(
    "observations_total", "Sightings of terms: forwarded to the table, or covered by an earlier "
    "sighting within state.granularity.", "result", result=("forwarded", "covered"),
)  # fmt: skip
SIGHTINGS = _counter(
    "sightings_total", "Verdicts of the table; repeated: given again after a crash; held: none "
    "yet, a backfill will send the sighting again.", "result",
    result=("new", "known", "repeated", "held"),
)  # fmt: skip
SIGHTINGS_HELD = _counter(
    "sightings_held_total", "Sightings put off because their rule is learning from the "
    "retained log.", "rule_id",
)  # fmt: skip
NEW_TERMS = _counter("new_terms_total", "New terms, before the quota.", "rule_id")

ALERTS = _counter("alerts_total", "Alerts acknowledged by the broker.", "rule_id")
ALERTS_BY_SEVERITY = _counter(
    "alerts_by_severity_total", "Alerts acknowledged by the broker.", "severity",
    severity=SEVERITIES,
)  # fmt: skip
ALERTS_OVERFLOW = _counter(
    "alerts_overflow_total", "Alerts sent to the overflow topic: beyond the quota, or from a rule "
    "that is learning.", "rule_id", "reason", reason=("quota", "learning"),
)  # fmt: skip
ALERTS_DUPLICATE = _counter(
    "alerts_duplicate_total", "Alerts not sent because the same id had been sent before."
)
ALERT_SUMMARIES = _counter(
    "alert_summaries_total", "Summary alerts for windows in which a rule exceeded its quota."
)
ALERT_LATENCY = _histogram(
    "alert_latency_seconds", "Time from the source record's timestamp to the broker's "
    "acknowledgement of the alert.", LATENCY_BUCKETS,
)  # fmt: skip

DEAD_LETTERS = _counter(
    "dead_letters_total", "Dead letters acknowledged by the broker.", "topic", "code"
)
ERRORS = _counter(
    "errors_total", "Records that became dead letters, and damaged state that was set aside.",
    "stage", "code",
)  # fmt: skip

CONSUMER_LAG = _gauge(
    "consumer_lag_records", "Records between the position and the end of the partition, without "
    "those of a transaction that is still open.", "topic", "partition",
)  # fmt: skip
OPEN_TRANSACTION = _gauge(
    "consumer_open_transaction_seconds", "For how long one open transaction has kept anything more "
    "from being read from a partition; 0 if nothing waits behind one.", "topic", "partition",
)  # fmt: skip
LAST_RECORD_TIMESTAMP = _gauge(
    "consumer_last_record_timestamp_seconds", "Timestamp of the last record processed; before the "
    "first one, the time at which records were found waiting.", "topic", "partition",
)  # fmt: skip
ASSIGNED_PARTITIONS = _gauge("assigned_partitions", "Partitions assigned to this worker.", "topic")
REBALANCES = _counter("rebalances_total", "Rebalances this worker took part in.")
REBALANCE_SECONDS = _histogram(
    "rebalance_seconds", "Time from revocation to the new assignment.", WORK_BUCKETS
)
COMMIT_SECONDS = _histogram("commit_seconds", "Duration of one offset commit.", WORK_BUCKETS)
COMMITS = _counter(
    "commits_total", "Offset commits; held: not all outputs were acknowledged.", "result",
    result=("success", "failure", "held"),
)  # fmt: skip
OUTBOX_RECORDS = _gauge("outbox_records", "Outputs sent but not acknowledged yet.")

STATE_ENTRIES = _gauge(
    "state_entries", "Rows of a table, by RocksDB's estimate: until RocksDB writes it to a file, a "
    "row that was written again counts again.", "table", table=TABLES,
)  # fmt: skip
STATE_RULE_ENTRIES = _gauge(
    "state_rule_entries", "Terms that a rule remembers, in the partitions of this worker; other: "
    "those of rules that do not run here.", "rule_id",
)  # fmt: skip
STATE_REMOVED = _counter(
    "state_removed_total", "Terms removed from the state. expired: their history is over; "
    "forgotten: by a history command; oldest: their rule is full and state.when_full is "
    "forget_oldest.", "reason",
    reason=("expired", "forgotten", "oldest"),
)  # fmt: skip
HISTORY_RECORDS = _counter(
    "history_records_total", "Records of history commands applied; refused: no room to learn the "
    "term.", "result", result=("learned", "refused", "forgotten", "held", "released"),
)  # fmt: skip
HISTORY_HELD = _gauge(
    "history_held_partitions", "Partitions of this worker in which a rule, with its current "
    "query, gives no verdicts because it is learning from the retained log.", "rule_id",
)  # fmt: skip
BACKFILL_REMAINING = _gauge(
    "backfill_remaining_records", "Records that a backfill on this worker still has to read in "
    "its current step.", "rule_id",
)  # fmt: skip
BACKFILL_RECORDS = _counter(
    "backfill_records_total", "Records read by backfills on this worker.", "rule_id"
)
CHANGELOGS_INCOMPLETE = _counter(
    "changelogs_incomplete_total", "Partitions of a table that were filled from a changelog whose "
    "beginning had been deleted: terms that only stood there are new again.", "table",
    table=TABLES,
)  # fmt: skip
STATE_REFUSED = _counter(
    "state_refused_total", "New terms that raised an alert but were not remembered: their rule has "
    "as many terms as state.max_entries_per_rule allows.", "rule_id",
)  # fmt: skip
RECOVERY_REMAINING = _gauge(
    "recovery_remaining_records", "Changelog records still to be read.", "table", table=TABLES
)

CATALOGUE: tuple[MetricSpec, ...] = (
    BUILD_INFO, WORKER_STATE, READY, LOOP_HEARTBEAT, RULESET_INFO, RULES_LOADED,
    RECORDS_CONSUMED, RECORDS_LOST, RECORDS_PROCESSED, EVENTS_DECODED, EVENT_AGE, EVENTS_FUTURE,
    EVENTS_UNTIMED, EVENTS_WITHOUT_TUPLE, RULE_MATCHES, RULE_ERRORS,
    OBSERVATIONS, SIGHTINGS, SIGHTINGS_HELD, NEW_TERMS,
    ALERTS, ALERTS_BY_SEVERITY, ALERTS_OVERFLOW, ALERTS_DUPLICATE, ALERT_SUMMARIES, ALERT_LATENCY,
    DEAD_LETTERS, ERRORS,
    CONSUMER_LAG, OPEN_TRANSACTION, LAST_RECORD_TIMESTAMP, ASSIGNED_PARTITIONS, REBALANCES,
    REBALANCE_SECONDS, COMMIT_SECONDS, COMMITS, OUTBOX_RECORDS,
    STATE_ENTRIES, STATE_RULE_ENTRIES, STATE_REMOVED, HISTORY_RECORDS, HISTORY_HELD,
    BACKFILL_REMAINING, BACKFILL_RECORDS, CHANGELOGS_INCOMPLETE, STATE_REFUSED,
    RECOVERY_REMAINING,
)  # fmt: skip
"""All of them, in the order of the reference page."""

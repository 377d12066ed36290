"""Every log event of firstseen: its action, its level, and what it means to an operator.

ERROR: data is lost or at risk, somebody must act. WARNING: degraded, and dealt with. INFO: a
change of state. DEBUG: for whoever looks for a fault; never written for each record above it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class LogEvent(NamedTuple):
    """One kind of log line."""

    action: str
    level: Literal["debug", "info", "warning", "error"]
    meaning: str


LOG_EVENTS: tuple[LogEvent, ...] = (
    LogEvent("worker_starting", "info", "A worker is starting, with these rules and inputs."),
    LogEvent(
        "worker_not_started",
        "error",
        "The worker cannot start; it ends with exit code 3 or 4. `error.code` says why, and "
        "`error.message` what to do. Without a code, the system has refused something or there is "
        "a bug; then it ends with 1, and `error.stack_trace` says where.",
    ),
    LogEvent(
        "rule_not_used",
        "error",
        "A rule has an error and does not run; the others do. Or an exception has one, and its "
        "rules run without it. `firstseen rules check` shows the error.",
    ),
    LogEvent("rule_doubtful", "warning", "A rule runs, but may not do what it seems to say."),
    LogEvent(
        "rule_failed",
        "error",
        "A rule failed to judge an event, or some of its term tuples; the other rules judged it. "
        "`firstseen.reason` says why, and `kafka.offset` says where the event is.",
    ),
    LogEvent("rules_skipped", "info", "Rules that are disabled, or of a type that does not run."),
    LogEvent(
        "worker_state",
        "info",
        "The worker joins the group (`joining`), rebuilds its tables (`recovering`) or works "
        "(`running`); also `draining` and `failed`. Logged at each change.",
    ),
    LogEvent("worker_stopping", "info", "The worker was told to stop and is finishing its work."),
    LogEvent("worker_stopped", "info", "The worker has stopped; everything it did is committed."),
    LogEvent(
        "membership_taken",
        "warning",
        "Another worker has joined the group with the same `kafka.group_instance_id`; the two "
        "keep fencing each other out of the group.",
    ),
    LogEvent("thread_failed", "error", "A thread of the worker ended with an error."),
    LogEvent(
        "worker_failed",
        "error",
        "The worker has stopped itself; nothing past the failure is committed. `error.code` says "
        "why; the orchestrator restarts it.",
    ),
    LogEvent(
        "look_failed",
        "error",
        "The self-check that a worker runs once a second failed. Metrics may be out of date, and "
        "if this persists, a worker that hangs may go unnoticed.",
    ),
    LogEvent(
        "records_lost",
        "error",
        "Records were deleted before they were read (`firstseen.records`, at most, from "
        "`kafka.offset` on): the backlog was longer than the topic's retention, or somebody "
        "deleted them. They are never judged.",
    ),
    LogEvent(
        "changelog_incomplete",
        "warning",
        "A table is filled from a changelog whose beginning was deleted at some time. Terms that "
        "only stood there are new again.",
    ),
    LogEvent(
        "log_cut_short",
        "error",
        "A partition ends before the offset that was to be read next: brokers have lost records, "
        "or the topic was created anew. It is read again from its beginning.",
    ),
    LogEvent(
        "state_full",
        "error",
        "A rule has as many terms as `state.max_entries_per_rule` allows: further new terms raise "
        "an alert each time they are seen, and are not remembered. Logged once for each rule.",
    ),
    LogEvent(
        "backfill_begun",
        "info",
        "These rules are new: they raise no alerts until they have learned from the inputs "
        "(`state.backfill`). If there are many, logged every 5 s; `left` says how many remain.",
    ),
    LogEvent(
        "backfill_delayed",
        "warning",
        "Brokers that answered before no longer do, so the start of a worker waits; it gives up "
        "after a minute of silence.",
    ),
    LogEvent(
        "group_awaited",
        "warning",
        "The coordinator of a consumer group does not answer yet: the cluster is new or busy, or "
        "brokers are restarting. The request is repeated for five minutes.",
    ),
    LogEvent("backfill_started", "info", "This worker starts or resumes reading for a rule."),
    LogEvent("backfill_done", "info", "A rule has finished learning, and now raises alerts."),
    LogEvent(
        "backfill_failed",
        "warning",
        "A backfill failed; it is tried again after half a minute, from where it was. Until it is "
        "done, its rule raises no alerts.",
    ),
    LogEvent(
        "decisions_dropped",
        "warning",
        "This worker lost or released a partition before it could send what it had decided "
        "(`firstseen.outputs` documents); the partition's new owner decides again and sends it.",
    ),
    LogEvent(
        "leave_failed",
        "warning",
        "The worker could not leave the group; the others take over after the session timeout.",
    ),
    LogEvent(
        "tls_host_check_off",
        "warning",
        "`kafka.ssl_endpoint_identification_algorithm` is `none`: any host with a certificate from "
        "a trusted authority can pose as a broker.",
    ),
    LogEvent(
        "sasl_unencrypted",
        "warning",
        "`kafka.security_protocol` is `SASL_PLAINTEXT`: the login can be read on the network.",
    ),
)
"""In the order of the reference page. Other lines come from Faust and aiokafka, without action."""

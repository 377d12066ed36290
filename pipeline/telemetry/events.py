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
    LogEvent("worker_starting", "info", "A worker starts, with these rules and inputs."),
    LogEvent(
        "rule_not_used",
        "error",
        "A rule has an error and does not run; the others do. `firstseen rules check` shows it.",
    ),
    LogEvent("rule_doubtful", "warning", "A rule runs, but may not do what it seems to say."),
    LogEvent(
        "rule_failed",
        "error",
        "A rule did not judge an event, or not all of its term tuples; the other rules did. "
        "`firstseen.reason` says why, and `kafka.offset` where the event is.",
    ),
    LogEvent("rules_skipped", "info", "Rules of a type that is not run, or not enabled."),
    LogEvent(
        "worker_state",
        "info",
        "It joins the group (`joining`), rebuilds its tables (`recovering`) or works (`running`); "
        "also `draining` and `failed`. Logged at each change.",
    ),
    LogEvent("worker_stopping", "info", "It was told to stop and finishes what it has begun."),
    LogEvent("worker_stopped", "info", "It has stopped; everything it did is committed."),
    LogEvent(
        "membership_taken",
        "warning",
        "Another worker has joined the group under the same `kafka.group_instance_id`; the two "
        "throw each other out.",
    ),
    LogEvent("thread_failed", "error", "A thread of the worker ended with an error."),
    LogEvent(
        "worker_failed",
        "error",
        "It has stopped itself: nothing past the failure is committed. `error.code` says why; "
        "the orchestrator restarts it.",
    ),
    LogEvent(
        "look_failed",
        "error",
        "The look that a worker takes at itself once a second failed: metrics may be old, and "
        "where it goes on, a worker that hangs may not be noticed.",
    ),
    LogEvent(
        "state_full",
        "error",
        "A rule has as many terms as `state.max_entries_per_rule` allows: further new terms are "
        "told each time they are seen, and not remembered. Once for each rule.",
    ),
    LogEvent(
        "backfill_begun",
        "info",
        "These rules are new: they tell nothing until they have learned from the inputs "
        "(`state.backfill`). While there are many, once in 5 s; `left` says how many are to come.",
    ),
    LogEvent(
        "backfill_delayed",
        "warning",
        "Brokers that answered before do not now, so a worker's start waits; it gives up after a "
        "minute of silence.",
    ),
    LogEvent(
        "group_awaited",
        "warning",
        "The coordinator of a consumer group does not answer, or not yet: a new cluster, one that "
        "is busy, or brokers that restart. It is asked again, for five minutes.",
    ),
    LogEvent("backfill_started", "info", "This worker reads the inputs for a rule, or goes on to."),
    LogEvent("backfill_done", "info", "A rule has learned, and tells from now on."),
    LogEvent(
        "backfill_failed",
        "warning",
        "A backfill failed; it is tried again after half a minute, where it was. Until it is "
        "through its rule tells nothing.",
    ),
    LogEvent(
        "decisions_dropped",
        "warning",
        "This worker has lost a partition, or let it go, before it could tell what it had decided "
        "(`firstseen.outputs` documents); whoever has the partition decides and tells.",
    ),
    LogEvent(
        "leave_failed",
        "warning",
        "It could not leave the group: the others take over after the session timeout.",
    ),
    LogEvent(
        "tls_host_check_off",
        "warning",
        "`kafka.ssl_endpoint_identification_algorithm` is `none`: any host with a certificate of a "
        "trusted authority can pose as a broker.",
    ),
    LogEvent(
        "sasl_unencrypted",
        "warning",
        "`kafka.security_protocol` is `SASL_PLAINTEXT`: the login can be read on the network.",
    ),
)
"""In the order of the reference page. Other lines come from Faust and aiokafka, without action."""

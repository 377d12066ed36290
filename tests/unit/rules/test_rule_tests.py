from __future__ import annotations

from dataclasses import replace

from pipeline.kql import FieldTable
from pipeline.rules import NewTerms, RuleSet, RuleTest, RuleType, run_tests
from tests.rules import new_terms_rule

RULE = new_terms_rule(
    rule_id="r",
    query="host.os.type:windows and not user.name:root",
    new_terms=NewTerms(("host.id", "user.id"), 60_000, "now-1m"),
    timestamp_override="event.ingested",
)


def event(host="h", user="u", **more):
    return {"host": {"id": host, "os": {"type": "windows"}}, "user": {"id": user}, **more}


def run(*steps, **changes):
    test = RuleTest("t", tuple(each for each, _ in steps), tuple(word for _, word in steps), 7)
    rule = replace(RULE, tests=(test,), **changes)
    ruleset, _ = RuleSet.compile([rule], FieldTable.builtin())
    (result,) = run_tests(ruleset.rules[0])
    assert (result.rule_id, result.name, result.line) == ("r", "t", 7)
    assert result.passed == (not result.failures)
    return result.failures


def test_a_tuple_alerts_once_and_is_known_then():
    assert run((event(), "alert"), (event(), "known"), (event(user="v"), "alert")) == ()


def test_one_new_tuple_among_known_ones_alerts():
    assert run((event(), "alert"), (event(user=["u", "v"]), "alert")) == ()


def test_a_tuple_is_new_again_after_the_window_and_not_at_its_end():
    def at(time):
        return event(event={"ingested": time})

    assert (
        run(
            (at("2024-01-01T00:00:00Z"), "alert"),
            (at("2024-01-01T00:01:00Z"), "known"),
            (at("2024-01-01T00:02:00.001Z"), "alert"),
        )
        == ()
    )


def test_a_late_event_is_known_and_does_not_shorten_the_history():
    def at(time):
        return event(**{"@timestamp": time})

    assert (
        run(
            (at("2024-01-01T00:10:00Z"), "alert"),
            (at("2024-01-01T00:00:00Z"), "known"),
            (at("2024-01-01T00:11:00Z"), "known"),
        )
        == ()
    )


def test_events_without_a_time_follow_each_other_by_a_second():
    steps = [(event(), "alert")] + [(event(), "known")] * 3

    assert run(*steps, new_terms=NewTerms(("host.id",), 1_000, "now-1s")) == ()
    steps = [(event(), "alert")] * 3
    assert run(*steps, new_terms=NewTerms(("host.id",), 999, "now-1s")) == ()


def test_without_the_fallback_the_event_time_is_not_looked_at():
    def at(time):
        return event(**{"@timestamp": time})

    steps = [(at("2024-01-01T00:00:00Z"), "alert"), (at("2025-01-01T00:00:00Z"), "known")]

    assert run(*steps, timestamp_override_fallback_disabled=True) == ()


def test_times_are_read_as_the_engine_reads_them():
    """A test must not pass by times that a worker reads otherwise."""
    monthly = NewTerms(("host.id",), 20 * 86_400_000, "now-20d")

    def ends(first, second):
        steps = [(event(**{"@timestamp": first}), "alert"), (event(**{"@timestamp": second}), "?")]
        (failure,) = run(*steps, new_terms=monthly)
        return failure.split("got ")[1].split(":")[0]

    assert ends("2024-05-01 00:00:00Z", "2024-05-20 00:00:00Z") == "known"
    assert ends("2024-05-01 00:00:00Z", "2024-05-22 00:00:00Z") == "alert"
    assert ends("2024-05", "2024-06") == "alert"
    assert ends("2024-05-01T12", "2024-05-10T12") == "known"
    # Of several values the earliest counts, and what is before 1980 is no time.
    assert ends("2024-05-01", ["2024-06-01", "2024-05-02"]) == "known"
    assert ends("2024-05-01", ["2024-06-01", "1970-01-01"]) == "alert"


def test_a_failure_says_which_clause_is_not_true():
    (failure,) = run((event(**{"user.name": "root"}), "alert"))

    assert failure == ("event 1: expected alert, got no_match: not true: not user.name:root")


def test_a_failure_says_what_the_event_has_and_which_fields_cannot_be_there():
    query = "host.os.type:windows and user.name:root and (user.id:1 or user.id:2) and user.nick:x"

    (failure,) = run((event(), "alert"), query=query)

    assert failure.partition("not true: ")[2].split("; ", 1)[0] == (
        "user.name:root (the event has no value)"
    )
    assert "user.id:(1 or 2); user.nick:x (" in failure


def test_a_failure_says_which_filter_or_field_is_missing():
    negated = {"meta": {"negate": True}, "query": {"exists": {"field": "host.id"}}}

    (by_filter,) = run((event(), "alert"), filters=(negated,))
    (by_field,) = run((event(user=[]), "alert"))

    assert by_filter == "event 1: expected alert, got no_match: a filter excludes it"
    assert by_field == (
        "event 1: expected alert, got no_match: the query matches, but user.id has no value"
    )


def test_a_failure_says_what_was_new_or_known():
    failures = run((event(), "no_match"), (event(), "alert"), (event(), "known"))

    assert failures == (
        "event 1: expected no_match, got alert: the query matches and (h, u) is new",
        "event 2: expected alert, got known: the query matches and (h, u) is known",
    )


def test_a_rule_without_history_alerts_on_every_match():
    steps = [(event(), "alert"), (event(), "alert"), ({}, "no_match")]

    assert run(*steps, type=RuleType.QUERY, new_terms=None) == ()


def test_a_rule_with_an_unmapped_field_never_alerts():
    (failure,) = run((event(), "alert"), new_terms=NewTerms(("acme.user",), 1, "now-1s"))

    assert failure.endswith("a new-terms field is not mapped")

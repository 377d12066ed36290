"""The keys of rule files: those of Elastic's public layout, and our tests and exceptions.

This is the only place that defines them. docs/reference/rule-keys.md lists the same keys (a test
compares the two).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any

from pipeline.rules.durations import parse_interval, parse_relative
from pipeline.rules.model import RuleType, Severity
from pipeline.rules.schema import AnyOf, Key, ListOf, Problem, Scalar, TableOf, shown

EXPECTATIONS = ("alert", "known", "no_match")
"""The words allowed in ``expect`` of ``[[tests]]``."""

LANGUAGES = ("kuery", "lucene", "eql", "esql")

_RULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def _words(values: type[Enum]) -> tuple[str, ...]:
    return tuple(str(member.value) for member in values)


def _one_of(words: tuple[str, ...]) -> Problem:
    def problem(value: str) -> str | None:
        return None if value in words else f"{value!r} is none of {', '.join(words)}"

    return problem


def _between(low: int, high: int) -> Problem:
    def problem(value: int) -> str | None:
        return None if low <= value <= high else f"{shown(value)} is not between {low} and {high}"

    return problem


def _form(is_right: Callable[[str], bool], says: str) -> Problem:
    def problem(value: str) -> str | None:
        return None if is_right(value) else f"{value!r} is not {says}"

    return problem


def _new_terms_problem(fields: list[str]) -> str | None:
    if not 1 <= len(fields) <= 3:
        return f"takes one to three fields, not {len(fields)}"
    if len(set(fields)) < len(fields):
        return "names a field twice"
    return None


def _not_empty(entries: list[Any]) -> str | None:
    return None if entries else "is empty"


def _one_entry(entries: list[Any]) -> str | None:
    return None if len(entries) == 1 else f"takes exactly one entry, not {len(entries)}"


TEXT = Scalar("a string", (str,))
NON_EMPTY = Scalar("a string", (str,), _form(lambda text: bool(text.strip()), "a non-empty string"))
INTEGER = Scalar("an integer", (int,))
POSITIVE = Scalar("an integer of 1 or more", (int,), _between(1, 2**31 - 1))
FLAG = Scalar("true or false", (bool,))
RULE_ID = Scalar(
    "a string",
    (str,),
    _form(
        lambda text: _RULE_ID.fullmatch(text) is not None,
        "an id: use a UUID, or 1 to 128 letters, digits and ._:-",
    ),
)
TEXTS = ListOf("an array of strings", TEXT)
NAMES = ListOf("an array of strings", NON_EMPTY)
ANY_TABLE = TableOf("a table")
ANY_TABLES = ListOf("an array of tables", ANY_TABLE)
INTERVAL = Scalar(
    "an interval such as 5m",
    (str,),
    _form(lambda text: parse_interval(text) is not None, "an interval such as 5m (s, m, h, d, w)"),
)
FIELD_NAME = Scalar(
    "a field name",
    (str,),
    _form(
        lambda text: bool(text) and not set(text) & set("* \t\r\n"), "the full name of one field"
    ),
)


def _relative(example: str) -> Scalar:
    says = f"relative date math such as {example} (s, m, h, d, w; no rounding)"
    return Scalar(
        f"a time such as {example}",
        (str,),
        _form(lambda text: parse_relative(text) is not None, says),
    )


HISTORY_START = _relative("now-14d")
NEW_TERMS_FIELDS = ListOf("an array of one to three field names", FIELD_NAME, _new_terms_problem)

_HISTORY_KEYS = {
    "field": Key(
        Scalar("a string", (str,), _one_of(("history_window_start",))),
        "always `history_window_start`",
        required=True,
    ),
    "value": Key(HISTORY_START, "where the history begins, e.g. `now-14d`", required=True),
}

NEW_TERMS_KEYS = {
    "field": Key(
        Scalar("a string", (str,), _one_of(("new_terms_fields",))),
        "always `new_terms_fields`",
        required=True,
    ),
    "value": Key(
        NEW_TERMS_FIELDS, "one to three fields whose combination must be new", required=True
    ),
    "history_window_start": Key(
        ListOf("an array of tables", TableOf("a table", _HISTORY_KEYS), _one_entry),
        "one entry with `field` and `value`",
        required=True,
    ),
}

_ENTRY_KEYS = {
    "id": Key(NON_EMPTY, "the ATT&CK id, e.g. `T1059`", required=True),
    "name": Key(NON_EMPTY, "its name", required=True),
    "reference": Key(TEXT, "its page", required=True),
}

THREAT_KEYS = {
    "framework": Key(NON_EMPTY, "e.g. `MITRE ATT&CK`", required=True),
    "tactic": Key(TableOf("a table", _ENTRY_KEYS), "id, name and reference", required=True),
    "technique": Key(
        ListOf(
            "an array of tables",
            TableOf(
                "a table",
                {
                    **_ENTRY_KEYS,
                    "subtechnique": Key(
                        ListOf("an array of tables", TableOf("a table", _ENTRY_KEYS)),
                        "its sub-techniques: id, name and reference each",
                    ),
                },
            ),
        ),
        "id, name, reference, and `subtechnique`",
    ),
}

FILTER_KEYS = {
    "meta": Key(ANY_TABLE, "`negate = true` inverts the filter, `disabled = true` skips it"),
    "$state": Key(ANY_TABLE, "where Kibana keeps the filter", kept=True),
    "query": Key(ANY_TABLE, "one clause of Elasticsearch's query language, from the list below"),
    # Filters written by old Kibana versions have the clause itself beside `meta`.
    "bool": Key(ANY_TABLE, "as `query`"),
    "exists": Key(ANY_TABLE, "as `query`"),
    "match_all": Key(ANY_TABLE, "as `query`"),
    "match_phrase": Key(ANY_TABLE, "as `query`"),
    "prefix": Key(ANY_TABLE, "as `query`"),
    "range": Key(ANY_TABLE, "as `query`"),
    "term": Key(ANY_TABLE, "as `query`"),
    "terms": Key(ANY_TABLE, "as `query`"),
    "wildcard": Key(ANY_TABLE, "as `query`"),
}

RULE_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "rule_id": Key(
            RULE_ID,
            "the stable id of the rule; a UUID in the public layout",
            required=True,
        ),
        "name": Key(NON_EMPTY, "the rule's name; `rule.name` in its alerts", required=True),
        "description": Key(TEXT, "what it finds; `rule.description` in its alerts", required=True),
        "type": Key(
            Scalar("a string", (str,), _one_of(_words(RuleType))),
            "what kind of rule it is: see the table below",
            required=True,
        ),
        "severity": Key(
            Scalar("a string", (str,), _one_of(_words(Severity))),
            "`low`, `medium`, `high` or `critical`",
            required=True,
        ),
        "risk_score": Key(
            Scalar("an integer from 0 to 100", (int,), _between(0, 100)),
            "0 to 100; `event.risk_score` in its alerts",
            required=True,
        ),
        "version": Key(POSITIVE, "the rule's version; part of each alert's id; default 1"),
        "language": Key(
            Scalar("a string", (str,), _one_of(LANGUAGES)),
            "`kuery` runs; rules in other languages are listed as skipped; default `kuery`",
        ),
        "query": Key(TEXT, "the KQL query that an event must satisfy"),
        "filters": Key(
            ListOf("an array of tables", TableOf("a table", FILTER_KEYS)),
            "Kibana filters that an event must satisfy as well",
        ),
        "new_terms": Key(
            TableOf("a table", NEW_TERMS_KEYS), "the fields and the history of a `new_terms` rule"
        ),
        "new_terms_fields": Key(
            NEW_TERMS_FIELDS, "the flat spelling of `new_terms.value`, as Kibana exports it"
        ),
        "history_window_start": Key(HISTORY_START, "the flat spelling of the history's start"),
        "index": Key(
            NAMES,
            "index patterns: events of other data streams are not judged; `-` excludes",
        ),
        "interval": Key(
            INTERVAL, "the window in which at most `max_signals` alerts are sent; default `5m`"
        ),
        "from": Key(
            _relative("now-9m"),
            "the interval searched by Kibana: the history must begin before it; default `now-6m`",
        ),
        "max_signals": Key(
            POSITIVE, "alerts per `interval`; the rest goes to the overflow topic; default 100"
        ),
        "timestamp_override": Key(
            FIELD_NAME,
            "the field with an event's time, preferred to `@timestamp`; changing it begins a new "
            "history",
        ),
        "timestamp_override_fallback_disabled": Key(
            FLAG,
            "`true`: an event without the override field takes the time of its record; default "
            "`false`",
        ),
        "enabled": Key(FLAG, "`false`: the rule is loaded but does not run; default `true`"),
        "author": Key(TEXTS, "`rule.author` in its alerts"),
        "license": Key(TEXT, "`rule.license` in its alerts"),
        "tags": Key(TEXTS, "`tags` in its alerts"),
        "references": Key(TEXTS, "links; `rule.reference` in its alerts"),
        "false_positives": Key(TEXTS, "what may raise it although nothing is wrong"),
        "note": Key(TEXT, "the investigation guide, in Markdown"),
        "setup": Key(TEXT, "what must be set up for the rule to work, in Markdown"),
        "building_block_type": Key(
            Scalar("a string", (str,), _one_of(("default",))),
            "`default` marks a building block; `detection.building_block_type` in its alerts",
        ),
        "threat": Key(
            ListOf("an array of tables", TableOf("a table", THREAT_KEYS)),
            "the ATT&CK tactic and techniques; `threat.*` in its alerts",
        ),
        "actions": Key(AnyOf("an array", (list,)), "Kibana's actions", kept=True),
        "alert_suppression": Key(ANY_TABLE, "Kibana's grouping of alerts: not applied", kept=True),
        "anomaly_threshold": Key(INTEGER, "of machine learning rules", kept=True),
        "concurrent_searches": Key(INTEGER, "of indicator match rules", kept=True),
        "created_at": Key(TEXT, "written by a Kibana export", kept=True),
        "created_by": Key(TEXT, "written by a Kibana export", kept=True),
        "data_view_id": Key(
            TEXT,
            "a Kibana data view, in place of `index`: its patterns are not known here",
            kept=True,
        ),
        "event_category_override": Key(TEXT, "of EQL rules", kept=True),
        "exceptions_list": Key(
            AnyOf("an array", (list,)),
            "Kibana's exception lists: applied if they are in files among the rules",
            kept=True,
        ),
        "execution_summary": Key(ANY_TABLE, "written by a Kibana export", kept=True),
        "id": Key(TEXT, "Kibana's own id for an installed rule", kept=True),
        "immutable": Key(FLAG, "written by a Kibana export", kept=True),
        "investigation_fields": Key(
            AnyOf("a table or an array", (dict, list)), "fields that Kibana highlights", kept=True
        ),
        "items_per_search": Key(INTEGER, "of indicator match rules", kept=True),
        "machine_learning_job_id": Key(
            AnyOf("a string or an array", (str, list)), "of machine learning rules", kept=True
        ),
        "meta": Key(ANY_TABLE, "arbitrary data of Kibana", kept=True),
        "min_stack_comments": Key(TEXT, "why that version is needed", kept=True),
        "min_stack_version": Key(TEXT, "the Elastic version that the rule needs", kept=True),
        "namespace": Key(TEXT, "Kibana's alert namespace", kept=True),
        "outcome": Key(TEXT, "written by a Kibana export", kept=True),
        "output_index": Key(TEXT, "where Kibana writes its alerts", kept=True),
        "related_integrations": Key(
            AnyOf("an array", (list,)), "the integrations that ship its data", kept=True
        ),
        "required_fields": Key(
            AnyOf("an array", (list,)), "the fields that its query names", kept=True
        ),
        "response_actions": Key(AnyOf("an array", (list,)), "Kibana's response actions", kept=True),
        "revision": Key(INTEGER, "counts edits in Kibana", kept=True),
        "risk_score_mapping": Key(
            AnyOf("an array", (list,)), "risk score taken from the event: not applied", kept=True
        ),
        "rule_name_override": Key(TEXT, "name taken from the event: not applied", kept=True),
        "rule_source": Key(ANY_TABLE, "written by a Kibana export", kept=True),
        "saved_id": Key(TEXT, "of saved query rules", kept=True),
        "severity_mapping": Key(
            AnyOf("an array", (list,)), "severity taken from the event: not applied", kept=True
        ),
        "threat_filters": Key(ANY_TABLES, "of indicator match rules", kept=True),
        "threat_index": Key(
            AnyOf("a string or an array", (str, list)), "of indicator match rules", kept=True
        ),
        "threat_indicator_path": Key(TEXT, "of indicator match rules", kept=True),
        "threat_language": Key(TEXT, "of indicator match rules", kept=True),
        "threat_mapping": Key(ANY_TABLES, "of indicator match rules", kept=True),
        "threat_query": Key(TEXT, "of indicator match rules", kept=True),
        "threshold": Key(ANY_TABLE, "of threshold rules", kept=True),
        "throttle": Key(TEXT, "how often Kibana acts", kept=True),
        "tiebreaker_field": Key(TEXT, "of EQL rules", kept=True),
        "timeline_id": Key(TEXT, "Kibana's timeline template", kept=True),
        "timeline_title": Key(TEXT, "its title", kept=True),
        "timestamp_field": Key(TEXT, "of EQL rules", kept=True),
        "to": Key(
            TEXT, "the end of the searched interval, which a stream does not have", kept=True
        ),
        "updated_at": Key(TEXT, "written by a Kibana export", kept=True),
        "updated_by": Key(TEXT, "written by a Kibana export", kept=True),
    }
)
"""The keys of ``[rule]``."""

TEST_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "name": Key(NON_EMPTY, "a sentence that says what the test shows", required=True),
        "base": Key(ANY_TABLE, "fields that every event of this test has"),
        "events": Key(
            AnyOf("an array of tables or of JSON strings", (list, tuple)),
            "the events in order, as tables or as JSON text",
            required=True,
        ),
        "expect": Key(
            ListOf("an array of strings", Scalar("a string", (str,), _one_of(EXPECTATIONS))),
            "one word per event: `alert`, `known` or `no_match`",
            required=True,
        ),
    }
)
"""The keys of ``[[tests]]``."""

FILE_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "metadata": Key(ANY_TABLE, "dates, maturity, integrations", kept=True),
        "rule": Key(TableOf("a table", RULE_KEYS), "the rule", required=True),
        "transform": Key(ANY_TABLE, "queries for the investigation guide", kept=True),
        "tests": Key(
            ListOf("an array of tables", TableOf("a table", TEST_KEYS)),
            "events, and what the rule has to make of them",
        ),
    }
)
"""The tables of a rule file."""

EXCEPTION_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "name": Key(NON_EMPTY, "which events these are, and why they do no harm", required=True),
        "rules": Key(
            ListOf("an array of strings", RULE_ID, _not_empty),
            "the ids of the rules that it applies to",
            required=True,
        ),
        "query": Key(NON_EMPTY, "the KQL query of the events that raise no alert", required=True),
    }
)
"""The keys of ``[[exceptions]]``."""

EXCEPTION_FILE_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "exceptions": Key(
            ListOf("an array of tables", TableOf("a table", EXCEPTION_KEYS)),
            "events of which rules raise no alert",
            required=True,
        ),
    }
)
"""The tables of a file of exceptions."""

ENTRY_TYPES = ("match", "match_any", "exists", "wildcard", "nested", "list")
"""The types of entries in Kibana's exception items; the last one is not supported."""

_OPERATOR = Key(
    Scalar("a string", (str,), _one_of(("included", "excluded"))),
    "`excluded`: the comparison has to be false; default `included`",
)
_VALUE = Key(
    AnyOf("a string or an array", (str, list)),
    "the value, the values, or the pattern; not with `exists` and `nested`",
)
_NESTED_ENTRY_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "field": Key(FIELD_NAME, "a field of the objects, without their path", required=True),
        "type": Key(
            Scalar("a string", (str,), _one_of(ENTRY_TYPES[:3])), "as outside", required=True
        ),
        "operator": _OPERATOR,
        "value": _VALUE,
    }
)

EXCEPTION_ENTRY_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "field": Key(FIELD_NAME, "the field that is compared", required=True),
        "type": Key(
            Scalar("a string", (str,), _one_of(ENTRY_TYPES)),
            "`match` (one value), `match_any` (one of several), `exists`, `wildcard` (a pattern "
            "with `*` and `?`) or `nested` (one of the objects); `list` is not supported",
            required=True,
        ),
        "operator": _OPERATOR,
        "value": _VALUE,
        "entries": Key(
            ListOf("an array of tables", TableOf("a table", _NESTED_ENTRY_KEYS)),
            "of `nested`: what one object has to satisfy, as `match`, `match_any` or `exists`; "
            "`field` is without the path of the objects",
        ),
        "list": Key(ANY_TABLE, "of an entry of type `list`", kept=True),
        "list_vals": Key(ANY_TABLE, "the same, as Elastic's tools name it", kept=True),
    }
)
"""The keys of ``[[exceptions.items.entries]]``."""

EXCEPTION_ITEM_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "name": Key(NON_EMPTY, "which events these are", required=True),
        "entries": Key(
            ListOf(
                "an array of tables", TableOf("a table", EXCEPTION_ENTRY_KEYS), problem=_not_empty
            ),
            "comparisons, all of which have to be true",
            required=True,
        ),
        "expire_time": Key(
            AnyOf("a string or a date", (str, date, datetime)),
            "when it ends in Kibana: not supported",
        ),
        "os_types": Key(TEXTS, "of endpoint exceptions: not supported"),
        "_tags": Key(TEXTS, "of endpoint exceptions", kept=True),
        "comments": Key(AnyOf("an array", (list,)), "what people said about it", kept=True),
        "description": Key(TEXT, "why they do no harm", kept=True),
        "item_id": Key(TEXT, "Kibana's id for it", kept=True),
        "list_id": Key(TEXT, "Kibana's id for its list", kept=True),
        "meta": Key(ANY_TABLE, "arbitrary data of Kibana", kept=True),
        "namespace_type": Key(TEXT, "in which spaces of Kibana it is", kept=True),
        "tags": Key(TEXTS, "its tags", kept=True),
        "type": Key(TEXT, "always `simple`", kept=True),
    }
)
"""The keys of ``[[exceptions.items]]``."""

EXCEPTION_LIST_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "container": Key(ANY_TABLE, "name, type and ids of the list", kept=True),
        "items": Key(
            ListOf("an array of tables", TableOf("a table", EXCEPTION_ITEM_KEYS)),
            "the exceptions in the list",
        ),
    }
)
"""The keys of ``[[exceptions]]`` in the public layout of exception lists."""

EXCEPTION_METADATA_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "rule_ids": Key(
            ListOf("an array of strings", RULE_ID, _not_empty),
            "the ids of the rules that the lists apply to",
            required=True,
        ),
        "comments": Key(TEXT, "what there is to say about it", kept=True),
        "creation_date": Key(TEXT, "when it was written", kept=True),
        "deprecation_date": Key(TEXT, "when it was given up", kept=True),
        "list_name": Key(TEXT, "the name of the list", kept=True),
        "maturity": Key(TEXT, "such as `production`", kept=True),
        "rule_names": Key(TEXTS, "the names of the rules", kept=True),
        "updated_date": Key(TEXT, "when it was changed", kept=True),
    }
)
"""The keys of ``[metadata]`` in the public layout of exception lists."""

EXCEPTION_LIST_FILE_KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "metadata": Key(TableOf("a table", EXCEPTION_METADATA_KEYS), "which rules", required=True),
        "exceptions": Key(
            ListOf("an array of tables", TableOf("a table", EXCEPTION_LIST_KEYS)),
            "exception lists",
            required=True,
        ),
    }
)
"""The tables of a file of exception lists in the public layout."""

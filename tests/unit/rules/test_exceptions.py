"""Exceptions take events from a rule, and leave its file and its history as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.kql import FieldTable, parse
from pipeline.rules import RuleSet, RuleTest, exceptions, load_rules, run_tests
from pipeline.rules.model import ExceptionItem
from pipeline.rules.reads import paths_read
from tests.rules import BUILTIN_RULE, new_terms_rule, rule_text

FIELDS = FieldTable.builtin()
DEPLOYER = 'process.name:"deploy.exe"'


def item(query=DEPLOYER, *rule_ids):
    return ExceptionItem("the deployment agent", rule_ids or ("rule",), query)


def compiled(*exceptions, **changes):
    """Return a compiled rule with these exceptions, and the issues of it."""
    rule = new_terms_rule(exceptions=exceptions, **changes)
    ruleset, issues = RuleSet.compile([rule], FIELDS)
    (only,) = ruleset.runnable
    return only, issues


def load(name, program="engine.dll", dll="engine.dll"):
    return {"process": {"executable": program, "name": name}, "dll": {"name": dll}}


def block(query=DEPLOYER, rules='["one"]', name="the deployment agent"):
    return f"[[exceptions]]\nname = '{name}'\nrules = {rules}\nquery = '''{query}'''\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def found(issues):
    return [(issue.code, issue.severity, issue.path.name, issue.line) for issue in issues]


def excepted(rule):
    return [each.query for each in rule.exceptions]


def test_an_event_that_an_exception_covers_does_not_match():
    rule, _ = compiled(item())

    assert rule.matcher(load("other.exe"))
    assert not rule.matcher(load("deploy.exe"))


def test_each_exception_covers_its_own_events():
    rule, _ = compiled(item(), item('process.name:"agent.exe" and dll.path:*'))

    assert [rule.matcher(load(name)) for name in ("deploy.exe", "agent.exe", "x.exe")] == [
        False,
        True,  # without a dll.path
        True,
    ]


def test_an_exception_to_a_query_of_alternatives_covers_all_of_them():
    rule, _ = compiled(item(), query='dll.name:"engine.dll" or dll.name:"other.dll"')

    assert not rule.matcher(load("deploy.exe"))
    assert not rule.matcher(load("deploy.exe", dll="other.dll"))
    assert rule.matcher(load("x.exe", dll="other.dll"))


def test_exceptions_and_filters_both_hold_events_back():
    filters = ({"meta": {"negate": True}, "query": {"term": {"process.name": "a.exe"}}},)
    rule, _ = compiled(item(), filters=filters)

    assert [rule.matcher(load(name)) for name in ("deploy.exe", "a.exe", "x.exe")] == [
        False,
        False,
        True,
    ]


def test_an_exception_begins_no_new_history():
    without, _ = compiled()
    with_one, _ = compiled(item())

    assert with_one.history_id == without.history_id


def test_an_exception_makes_another_set_of_rules():
    first, second, third = (
        RuleSet.compile([new_terms_rule(exceptions=exceptions)], FIELDS)[0].digest
        for exceptions in ((), (item(),), (item('process.name:"x"'),))
    )

    assert len({first, second, third}) == 3


def test_a_rule_reads_what_its_exceptions_read():
    rule, _ = compiled(item())

    assert paths_read(rule) == {"dll.name", "process.executable", "process.name"}


def test_an_exception_costs_the_rule_no_text_that_is_searched_for():
    without, _ = compiled()
    with_one, issues = compiled(item())

    assert with_one.clauses == without.clauses != ()
    assert issues == ()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("process.name:(", "query_syntax"),
        ("process.pid:many", "query_type"),
        ("(" * 300 + "a:b" + ")" * 300, "query_limit"),
        ("*", "excepts_all"),
        ("*:*", "excepts_all"),
        ("process.name:x or *", "excepts_all"),
        ("*:* and not (not *)", "excepts_all"),
        ("process.name:x and not user.nam:admin", "unmapped_field"),
        ("not user.nam:admin", "unmapped_field"),
        ("not (user.name:admin or usr.*:admin)", "unmapped_field"),
        ("user.nam:a or not user.nam:b", "unmapped_field"),
        ("not dll.Ext.code_signature:{ nam:x }", "unmapped_field"),
    ],
)
def test_a_rule_runs_without_an_exception_that_has_an_error(query, code):
    rule, issues = compiled(item(query), item())

    assert [(issue.code, issue.severity, issue.rule_id) for issue in issues] == [
        (code, "error", None)
    ]
    assert excepted(rule.rule) == [DEPLOYER]
    assert rule.matcher(load("other.exe"))
    assert not rule.matcher(load("deploy.exe"))


def test_exceptions_that_are_too_many_together_leave_out_the_last_of_them():
    many = " or ".join(f"process.name:a{number}" for number in range(9_000))
    last = 'process.name:"last.exe"'

    rule, issues = compiled(item(), item(many), item(many), item(many), item(last))

    assert excepted(rule.rule) == [DEPLOYER, many, many]
    (issue,) = issues
    assert (issue.code, issue.severity) == ("query_limit", "error")
    assert "it and the 1 after it are left out" in issue.message
    assert not rule.matcher(load("a8999"))
    assert rule.matcher(load("last.exe"))


def test_a_field_without_a_type_is_told():
    _, issues = compiled(item("process.nam:x or a*:y"))

    (issue,) = issues
    assert (issue.code, issue.severity) == ("unmapped_field", "warning")
    assert "process.nam " in issue.message
    assert issue.hint == "did you mean process.name?"


def test_an_exception_may_negate_a_clause_on_a_field_that_has_a_type():
    rule, issues = compiled(item("process.name:deploy.exe and not user.n*:root"))

    assert issues == ()
    assert not rule.matcher(load("deploy.exe"))
    assert rule.matcher({**load("deploy.exe"), "user": {"name": "root"}})


def test_an_exception_is_parsed_once_for_all_its_rules(monkeypatch):
    parsed = []
    monkeypatch.setattr(exceptions, "parse", lambda text: parsed.append(text) or parse(text))
    items = [item(f"process.name:{name}", "one", "two") for name in "abcdef"]
    rules = [new_terms_rule(rule_id=name, exceptions=tuple(items)) for name in ("one", "two")]

    RuleSet.compile(rules, FIELDS)

    assert sorted(parsed) == sorted(each.query for each in items)


def test_the_field_that_was_meant_is_searched_for_once(monkeypatch):
    searched = []
    monkeypatch.setattr(
        FieldTable, "suggest", lambda _self, name: searched.append(name) or "process.name"
    )

    _, issues = compiled(*(item(f"process.namm:{number}") for number in range(3)))

    assert searched == ["process.namm"]
    assert [issue.hint for issue in issues] == ["did you mean process.name?"] * len(issues) != []


def test_an_error_is_told_once_for_all_rules_with_that_exception():
    wrong = item("a:(", "one", "two")
    rules = [new_terms_rule(rule_id=rule_id, exceptions=(wrong,)) for rule_id in ("one", "two")]

    ruleset, issues = RuleSet.compile(rules, FIELDS)

    assert len(ruleset.runnable) == 2
    assert [issue.code for issue in issues] == ["query_syntax"]


def test_exceptions_are_read_from_the_folder_of_the_rules(tmp_path):
    write(tmp_path / "1.toml", block(rules='["one", "two", "one"]'))
    write(tmp_path / "2.toml", rule_text("one", "dll.name:a") + "\n")
    write(tmp_path / "3.toml", rule_text("two", "dll.name:a") + "\n")
    write(tmp_path / "4.toml", rule_text("three", "dll.name:a") + "\n")

    loaded = load_rules([tmp_path])

    assert loaded.issues == ()
    assert {rule.rule_id: excepted(rule) for rule in loaded.rules} == {
        "one": [DEPLOYER],
        "two": [DEPLOYER],
        "three": [],
    }


def test_nothing_but_exceptions_are_exceptions_to_the_built_in_rules(tmp_path):
    loaded = load_rules([write(tmp_path / "e.toml", block(rules=f'["{BUILTIN_RULE}"]'))])

    assert loaded.issues == ()
    assert [(rule.rule_id, excepted(rule)) for rule in loaded.rules] == [(BUILTIN_RULE, [DEPLOYER])]


def test_beside_a_rule_that_cannot_be_read_no_built_in_rule_is_loaded(tmp_path):
    write(tmp_path / "e.toml", block(rules=f'["{BUILTIN_RULE}"]'))
    write(tmp_path / "r.toml", "[rule")

    loaded = load_rules([tmp_path])

    assert loaded.rules == ()
    assert [issue.code for issue in loaded.issues] == ["toml_syntax", "unknown_rule"]


def test_an_exception_to_a_rule_that_is_not_loaded_is_told(tmp_path):
    write(tmp_path / "e.toml", block(rules='["onee"]'))
    write(tmp_path / "r.toml", rule_text("one", "dll.name:a"))

    loaded = load_rules([tmp_path])

    (issue,) = loaded.issues
    assert found([issue]) == [("unknown_rule", "warning", "e.toml", 3)]
    assert issue.hint == "did you mean one?"


def test_an_exception_to_a_rule_with_an_error_is_not_unknown(tmp_path):
    write(tmp_path / "e.toml", block())
    write(tmp_path / "r.toml", rule_text("one", "dll.name:a").replace("name =", "nam ="))

    assert "unknown_rule" not in [issue.code for issue in load_rules([tmp_path]).issues]


def test_a_block_with_a_mistake_hides_no_other(tmp_path):
    blocks = [
        block(),
        "[[exceptions]]\nname = ' '\nrules = []\n",
        block(rules='["o n e"]'),
        block(query="process.name:x"),
    ]
    write(tmp_path / "e.toml", "".join(blocks))
    write(tmp_path / "r.toml", rule_text("one", "dll.name:a"))

    loaded = load_rules([tmp_path])

    assert excepted(loaded.rules[0]) == [DEPLOYER, "process.name:x"]
    assert found(loaded.issues) == [
        ("bad_value", "error", "e.toml", 6),
        ("bad_value", "error", "e.toml", 7),
        ("missing_key", "error", "e.toml", 5),
        ("bad_value", "error", "e.toml", 10),
    ]


def test_a_finding_names_the_line_in_the_query(tmp_path):
    write(tmp_path / "e.toml", block(query="\nprocess.name:a or\n  process.pid:many"))
    write(tmp_path / "r.toml", rule_text("one", "dll.name:engine.dll"))

    _, issues = RuleSet.compile(load_rules([tmp_path]).rules, FIELDS)

    assert found(issues) == [("query_type", "error", "e.toml", 6)]


def test_exceptions_with_filters_that_are_too_many_together_leave_out_the_last_of_them():
    def any_of(*values):
        phrases = [{"match_phrase": {"process.name": value}} for value in values]
        return ExceptionItem("x", ("rule",), filter={"bool": {"should": phrases}})

    many = any_of(*(f"a{number}" for number in range(9_000)))

    rule, issues = compiled(any_of("b"), many, many, many, any_of("c"))

    assert len(rule.rule.exceptions) == 3
    assert [issue.code for issue in issues] == ["query_limit"]
    assert not rule.matcher(load("b"))
    assert rule.matcher(load("c"))


def test_a_file_with_a_rule_holds_no_exceptions(tmp_path):
    path = write(tmp_path / "r.toml", rule_text("one", "dll.name:a") + block())

    loaded = load_rules([path])

    assert loaded.rules == ()
    (issue,) = loaded.issues
    assert (issue.code, issue.hint) == ("unknown_key", "write them in a file of their own")


def test_a_test_of_the_rule_says_which_exception_covers_its_event():
    test = RuleTest("t", (load("deploy.exe"), load("x.exe")), ("alert", "alert"), 1)
    rule, _ = compiled(item(), tests=(test,))

    (result,) = run_tests(rule)

    assert result.failures == (
        "event 1: expected alert, got no_match: excepted: the deployment agent",
    )

from __future__ import annotations

import pytest

from pipeline.rules.index_patterns import compile_index_patterns

LIBRARY = "logs-endpoint.events.library-default"


@pytest.mark.parametrize(
    ("patterns", "accepts"),
    [
        ([], True),
        (["logs-endpoint.events.library-*"], True),
        ([LIBRARY], True),
        (["logs-endpoint.events.*"], True),
        (["*"], True),
        (["winlogbeat-*"], False),
        (["logs-endpoint.events.process-*"], False),
        (["winlogbeat-*", "logs-endpoint.events.*"], True),
        (["winlogbeat-*,logs-endpoint.events.*"], True),
        (["winlogbeat-*, logs-endpoint.events.*"], True),
        (["logs-*", "-logs-endpoint.*"], False),
        (["logs-*,-logs-endpoint.events.library-*"], False),
        (["-logs-endpoint.*", "logs-*"], True),
        (["logs-*", "-logs-endpoint.events.process-*"], True),
        (["-logs-endpoint.events.library-*"], False),
        (["-winlogbeat-*"], True),
        (["remote:logs-endpoint.*"], True),
        (["*:logs-endpoint.*", "-*:logs-endpoint.events.library-*"], False),
        (["LOGS-*"], False),
        (["logs-endpoint?events.*"], False),
    ],
)
def test_patterns_say_which_indices_a_rule_searches(patterns, accepts):
    assert compile_index_patterns(patterns)(LIBRARY) is accepts

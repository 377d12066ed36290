"""Beside many rules, at any depth, a rule finds what it finds alone."""

from __future__ import annotations

import pytest

from pipeline.config import Settings
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.transport.options import Depth
from pipeline.telemetry.metrics import Metrics
from tests.benchmarks.generator import Corpus, choices
from tests.benchmarks.many_rules import fetched, passed, rule_set

CORPUS = Corpus(count=450, share=0.05)


@pytest.mark.parametrize("depth", [Depth.BATCH, Depth.RECORD, Depth.EVENT])
@pytest.mark.parametrize("count", [1, 60])
def test_what_passes_is_what_the_generator_says(count: int, depth: Depth) -> None:
    wanted = sum(choice.matching for choice in choices(CORPUS))

    found = passed(fetched(CORPUS), MatchFilter(Settings(), rule_set(count), Metrics()), depth)

    assert wanted == found > 5

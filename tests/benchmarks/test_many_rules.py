"""Beside many rules, at any depth, a rule finds what it finds alone."""

from __future__ import annotations

import pytest

from pipeline.config import Settings
from pipeline.stream.match_filter import MatchFilter
from pipeline.stream.transport.options import Depth
from pipeline.telemetry.metrics import Metrics
from tests.benchmarks.generator import Corpus, choices
from tests.benchmarks.many_rules import fetched, passed, rule_set
from tests.scans import KINDS

CORPUS = Corpus(count=450, share=0.05)


@pytest.mark.parametrize("scan", KINDS)
@pytest.mark.parametrize("depth", [Depth.BATCH, Depth.RECORD, Depth.EVENT])
@pytest.mark.parametrize("count", [1, 60])
def test_what_passes_is_what_the_generator_says(count: int, depth: Depth, scan: str) -> None:
    wanted = sum(choice.matching for choice in choices(CORPUS))
    native = scan == "native"
    settings = Settings.model_validate({"stream": {"native": "on" if native else "off"}})
    record_filter = MatchFilter(settings, rule_set(count), Metrics())

    found = passed(fetched(CORPUS), record_filter, depth, native=native)

    assert wanted == found > 5

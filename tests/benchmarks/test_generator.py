"""The events of the benchmark are what it says they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import zstandard

from pipeline.kql import FieldTable
from pipeline.rules import RuleSet, builtin_path, load_rules
from tests.benchmarks.generator import (
    BATCH_RECORDS,
    NEEDLE,
    SIZES,
    Corpus,
    choices,
    distinct_terms,
    events,
    partition_of,
    truth,
)
from tests.benchmarks.peers.rule import matches, term

SMALL = Corpus(count=3000, share=0.05)


def _ends(corpus: Corpus) -> dict[int, int]:
    return dict(Counter(partition_of(number) for number in range(corpus.count)))


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert list(events(SMALL)) == list(events(SMALL))


def test_another_seed_gives_other_events() -> None:
    assert not set(events(SMALL)) & set(events(replace(SMALL, seed=2)))


def test_a_shorter_corpus_is_the_beginning_of_a_longer_one() -> None:
    assert list(events(replace(SMALL, count=500))) == list(events(SMALL))[:500]


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_compresses_as_a_fleet_does(size: float) -> None:
    made = list(events(Corpus(count=3000, size=size)))
    compressor = zstandard.ZstdCompressor(level=3)
    batches = [b"".join(made[at : at + BATCH_RECORDS]) for at in range(0, len(made), BATCH_RECORDS)]
    ratio = sum(map(len, batches)) / sum(len(compressor.compress(batch)) for batch in batches)
    assert 5 <= ratio <= 8
    mean = sum(map(len, made)) / len(made)
    assert mean == pytest.approx(1000 * size, rel=0.15)


def test_the_bytes_looked_for_stand_in_the_candidates_alone() -> None:
    found = [NEEDLE in event for event in events(SMALL)]
    assert found == [choice.candidate for choice in choices(SMALL)]
    assert sum(found) / len(found) == pytest.approx(SMALL.share, rel=0.3)


def test_the_built_in_rule_and_the_one_written_by_hand_find_the_truth() -> None:
    ruleset, _ = RuleSet.compile(load_rules([builtin_path()]).rules, FieldTable.builtin())
    (rule,) = ruleset.runnable
    wanted = [choice.matching for choice in choices(SMALL)]
    decoded = [json.loads(event) for event in events(SMALL)]
    assert [rule.matcher(event) for event in decoded] == wanted
    assert [matches(event) for event in decoded] == wanted


def test_the_truth_of_any_beginning_of_the_partitions_is_known() -> None:
    known = truth(SMALL)
    assert known.candidates_until(_ends(SMALL)) == sum(c.candidate for c in choices(SMALL))
    assert known.matches_until(_ends(SMALL)) == sum(c.matching for c in choices(SMALL))
    first = [choice.candidate for choice in choices(SMALL)][:BATCH_RECORDS]
    assert known.candidates_until({0: BATCH_RECORDS, 1: 0, 2: 0, 3: 0}) == sum(first)


def test_in_the_state_corpus_every_event_matches_and_one_in_ten_of_the_rest_is_new() -> None:
    corpus = Corpus(count=3000, size=1.0, distinct=1000)
    decoded = [json.loads(event) for event in events(corpus)]
    assert all(matches(event) for event in decoded)
    terms = [term(event) for event in decoded]
    assert len(set(terms[:1000])) == 1000
    assert len(set(terms)) == distinct_terms(corpus)
    assert distinct_terms(corpus) - 1000 == pytest.approx(200, rel=0.3)


def test_the_command_prints_the_events_as_lines() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.generator", "--count", "20", "--share", "0"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stdout.splitlines() == list(events(Corpus(count=20, share=0.0)))

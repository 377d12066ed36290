"""The generator's oracle is what a replay finds."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.corpus import make_corpus, replayed_terms, write_rules


def test_a_replay_finds_the_terms_that_were_put_in(tmp_path: Path):
    write_rules(tmp_path / "rules")
    corpus = make_corpus(1500, 80, seed=5)
    found = replayed_terms(corpus, tmp_path / "rules", tmp_path / "events.ndjson")

    assert len(corpus.terms) == 80
    assert sorted(found) == sorted(corpus.terms)


def test_the_body_brings_every_term_first_and_the_tail_each_once_more():
    corpus = make_corpus(1500, 80, seed=5)

    assert {event.new for event in corpus.body} - {None} == corpus.terms
    assert len(corpus.body) + len(corpus.tail) == 1500
    assert len(corpus.tail) == 80
    assert {event.new for event in corpus.tail} == {None}


def test_the_same_seed_gives_the_same_events():
    assert make_corpus(1500, 80, seed=5) == make_corpus(1500, 80, seed=5)

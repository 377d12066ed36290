"""Which topic a table belongs to, and what happens otherwise."""

from __future__ import annotations

import pytest

from pipeline.engine.source import SOURCE_KEY, check_source
from pipeline.engine.tables import MemoryTable
from pipeline.errors import SourceChangedError


def test_a_table_that_belongs_to_no_topic_yet_becomes_that_of_the_first():
    table = MemoryTable()

    check_source(table, "observations", "id-1")
    check_source(table, "observations", "id-1")

    assert table.get(SOURCE_KEY) == b"id-1"


def test_a_topic_that_was_created_anew_is_refused_with_both_ids():
    table = MemoryTable()
    check_source(table, "observations", "id-1")

    with pytest.raises(SourceChangedError, match=r"observations was created anew.*id-2.*id-1"):
        check_source(table, "observations", "id-2")

    assert table.get(SOURCE_KEY) == b"id-1"


def test_where_brokers_give_topics_no_id_nothing_is_noted_or_refused():
    fresh, noted = MemoryTable(), MemoryTable()
    check_source(noted, "observations", "id-1")

    check_source(fresh, "observations", "")
    check_source(noted, "observations", "")

    assert (fresh.get(SOURCE_KEY), noted.get(SOURCE_KEY)) == (None, b"id-1")

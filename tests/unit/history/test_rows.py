from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.first_seen import FirstSeen
from pipeline.engine.first_seen_rows import TERM_CHARACTERS
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import Learn, decode_observation_or_change, encode
from pipeline.history import HistoryRow, decode_history_row
from tests.rows import rows

terms = st.one_of(
    st.text(max_size=20),
    st.text(st.sampled_from("ab"), min_size=TERM_CHARACTERS, max_size=TERM_CHARACTERS + 2),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
times = st.integers(0, 4_000_000_000_000)
learned = st.builds(
    lambda terms, first, last, count: Learn(
        "rule", "ab" * 8, 1_000, terms, min(first, last), max(first, last), count
    ),
    st.lists(terms, min_size=1, max_size=3).map(tuple),
    times,
    times,
    st.integers(1, 1_000),
)


@given(learned)
def test_an_export_that_is_imported_again_gives_the_same_rows(record: Learn) -> None:
    table, again = MemoryTable(), MemoryTable()
    FirstSeen(table).learn(record, 5, 0)

    for key, row in rows(table):
        line = HistoryRow.of(key, row).to_json()
        sent = encode(decode_history_row(line).to_learn())
        received = decode_observation_or_change(sent)
        assert isinstance(received, Learn)
        FirstSeen(again).learn(received, 5, 0)

    assert list(table.items()) == list(again.items())


def test_only_a_cut_term_needs_the_key_of_its_row() -> None:
    lines = []
    for text in ("a" * TERM_CHARACTERS, "a" * (TERM_CHARACTERS + 1)):
        table = MemoryTable()
        FirstSeen(table).learn(Learn("rule", "ab" * 8, 1_000, (text,), 0, 0), 0, 0)
        lines += [json.loads(HistoryRow.of(key, row).to_json()) for key, row in rows(table)]

    assert [False, True] == ["row" in line for line in lines]

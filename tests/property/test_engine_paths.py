"""Many fields of an event that are read in one pass are what is read of each by itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.paths import FieldsReader, scalars_at
from tests.strategies import events

PATHS = ["k", "k.z", "o.k", "o.n", "o.p.w", "o.p", "nest.k", "nest.deep.k", "ip", "flat.a", "b"]
NAMES = ["a", "b", "c", "a.b", "b.c", "d.a", ".a", "a.", "", "."]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "x", "y"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=8,
)
SMALL = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
SMALL_PATHS = st.lists(
    st.sampled_from(["a", "b", "a.b", "a.b.c", "b.c", "d.a", "c", "a.a"]), min_size=1, unique=True
)


def one_by_one(event: dict[str, Any], paths: list[str]) -> dict[str, list[Any]]:
    return {path: found for path in paths if (found := scalars_at(event, path))}


@settings(max_examples=1500)
@given(SMALL, SMALL_PATHS)
def test_small_events_of_every_shape(event: dict[str, Any], paths: list[str]) -> None:
    assert dict(FieldsReader(paths).read(event)) == one_by_one(event, paths)


@settings(max_examples=300)
@given(events())
def test_events_as_rules_know_them(event: dict[str, Any]) -> None:
    assert dict(FieldsReader(PATHS).read(event)) == one_by_one(event, PATHS)

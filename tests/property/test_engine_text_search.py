"""However few or many texts there are, and whatever their case: they are found where they stand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.text_search import text_searches

# Few letters, so that texts stand in the data, overlap each other and overlap themselves.
words = st.text(alphabet='aAb"\\', min_size=1, max_size=5).map(str.encode)
texts = st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=8, unique=True)
data = st.lists(words | st.binary(max_size=40), max_size=12).map(b"".join)


def places(data: bytes, text: bytes, *, caseless: bool) -> list[range]:
    """Return where a text stands, overlapping places included."""
    if caseless:
        data, text = data.lower(), text.lower()
    size = len(text)
    starts = range(len(data) - size + 1)
    return [range(at, at + size) for at in starts if data[at : at + size] == text]


@settings(max_examples=500)
@given(texts, data)
def test_every_hit_is_found_and_nothing_else(texts: list[tuple[bytes, bool]], data: bytes) -> None:
    expected = [
        place for text, caseless in texts for place in places(data, text, caseless=caseless)
    ]

    # As batches are searched: a part of memory that is used again.
    view = memoryview(bytearray(b"a" + data + b"a"))[1:-1]
    for few in (0, 4, 8):
        searches = text_searches(texts, few=few)
        for given_as in (data, view):
            found = [end - 1 for search in searches for _, _, end in search.hits(given_as)]

            assert any(search.finds(given_as) for search in searches) is bool(expected)
            assert set(found) <= {place[-1] for place in expected}
            assert all(any(position in place for position in found) for place in expected)

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine.index import index_of


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"data_stream": {"type": "logs", "dataset": "a.b", "namespace": "x"}}, "logs-a.b-x"),
        (
            {
                "data_stream.type": "logs",
                "data_stream": {"dataset": ["a.b"]},
                "data_stream.namespace": "x",
            },
            "logs-a.b-x",
        ),
        ({"data_stream": {"type": "logs", "dataset": "a.b"}}, None),
        ({"data_stream": {"type": "logs", "dataset": ["a", "b"], "namespace": "x"}}, None),
        ({"data_stream": {"type": "logs", "dataset": 1, "namespace": "x"}}, None),
        ({"data_stream": {"type": "logs", "dataset": "", "namespace": "x"}}, None),
        ({"data_stream": "logs-a.b-x"}, None),
        ({}, None),
    ],
)
def test_the_index_is_that_of_the_data_stream_or_unknown(
    event: dict[str, Any], expected: str | None
) -> None:
    assert expected == index_of(event)

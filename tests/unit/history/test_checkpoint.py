from __future__ import annotations

import pytest

from pipeline.errors import StateError
from pipeline.history.checkpoint import Phase, _encoder, _Metadata, _read


def metadata(number: int) -> str:
    return _encoder.encode(_Metadata(number, Phase.LEARN, 1, 2, None, 3, 4, None)).decode()


def test_what_was_saved_is_read() -> None:
    assert (Phase.LEARN, 3, 4) == (
        _read(metadata(1)).phase,
        _read(metadata(1)).start,
        _read(metadata(1)).handover,
    )


@pytest.mark.parametrize("saved", [None, "", "{}", "not JSON", metadata(2)])
def test_a_checkpoint_that_is_none_is_refused(saved: str | None) -> None:
    with pytest.raises(StateError, match="checkpoint"):
        _read(saved)

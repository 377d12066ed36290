from __future__ import annotations

import pytest

from pipeline.errors import BrokerError, StateError
from pipeline.history.checkpoint import (
    Checkpoint,
    Part,
    Phase,
    _encoder,
    _Metadata,
    _read,
    backfill_group,
)


def metadata(number: int) -> str:
    return _encoder.encode(_Metadata(number, Phase.LEARN, 1, 2, None, 3, 4, None)).decode()


def test_what_was_saved_is_read() -> None:
    assert (Phase.LEARN, 3, 4) == (
        _read(metadata(1)).phase,
        _read(metadata(1)).start,
        _read(metadata(1)).handover,
    )


def test_a_checkpoint_holds_these_values_under_these_names() -> None:
    """Else an upgrade could not go on with a backfill that the version before began."""
    meta = _Metadata(1, Phase.RESEND, 1, 2, 5, 3, 4, 6)
    text = (
        '{"format":1,"phase":"tell","since_ms":1,"begun_ms":2,"ended_ms":5,"start":3,'
        '"handover":4,"until":6}'
    )

    assert (_encoder.encode(meta).decode(), _read(text)) == (text, meta)
    assert [str(phase) for phase in Phase] == ["hold", "choose", "learn", "release", "tell", "done"]
    assert backfill_group("firstseen", "0123456789abcdef") == "firstseen-backfill-0123456789abcdef"


@pytest.mark.parametrize("saved", ["{}", "not JSON", metadata(2)])
def test_a_checkpoint_that_is_none_is_refused(saved: str) -> None:
    with pytest.raises(StateError, match="checkpoint"):
        _read(saved)


@pytest.mark.parametrize("saved", [None, ""])
def test_brokers_that_keep_only_the_offset_are_told_apart(saved: str | None) -> None:
    with pytest.raises(BrokerError, match="have not kept the metadata"):
        _read(saved)


def checkpoint(phase: Phase, **parts: Part) -> Checkpoint:
    return Checkpoint(phase, 0, 0, {(topic, 0): part for topic, part in parts.items()})


def test_a_backfill_that_replaces_an_unfinished_one_tells_what_that_one_had_not_told() -> None:
    """Also where it had just been released: its own hand-over comes first."""
    new = checkpoint(Phase.HOLD, a=Part(40, 90, 40), b=Part(0, 90, 0), added=Part(0, 7, 0))
    new.keep_handover(checkpoint(Phase.RESEND, a=Part(0, 30, 60, 80), b=Part(0, 50, 60, 80)))

    assert checkpoint(Phase.HOLD, a=Part(30, 30, 30), b=Part(0, 50, 0), added=Part(0, 7, 0)) == new


def test_one_that_replaces_a_finished_one_learns_up_to_now() -> None:
    new = checkpoint(Phase.HOLD, a=Part(40, 90, 40))
    new.keep_handover(checkpoint(Phase.DONE, a=Part(0, 30, 80, 80)))

    assert checkpoint(Phase.HOLD, a=Part(40, 90, 40)) == new


def test_one_that_was_held_again_tells_once_more_all_since_the_hand_over() -> None:
    done = checkpoint(Phase.DONE, a=Part(10, 30, 80, 80))
    done.go_back_to_release()

    assert checkpoint(Phase.RELEASE, a=Part(10, 30, 30, 80)) == done

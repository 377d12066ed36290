"""The order of a backfill's steps: what is durable before what. Each line here is a crash survived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import pytest

from pipeline.config import Settings
from pipeline.history import Backfill, BackfillResult, backfill
from pipeline.history.checkpoint import Checkpoint, Input, Part, Phase
from pipeline.kql import FieldTable
from pipeline.rules import RuleSet
from tests.rules import new_terms_rule

PLACE: Input = ("events", 0)
END = 9


class World:
    """One input partition, and a journal of what was done, in order.

    Attributes:
        journal: the steps.
        saved: the checkpoint that the brokers hold, None before the first.
    """

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.saved: Checkpoint | None = None
        self._dies_at: tuple[str, int] | None = None

    def die_at(self, step: str, done: int = 0) -> None:
        """Die at a step, when so many of its kind are done."""
        self._dies_at = step, done

    def live_again(self) -> None:
        self._dies_at = None
        self.journal.clear()

    def did(self, step: str) -> None:
        if (step, self.journal.count(step)) == self._dies_at:
            raise _DiedError
        self.journal.append(step)


class _DiedError(Exception):
    pass


class Client:
    def close(self) -> None:
        pass


class Log:
    """Holds 9 records, of which the workers have read 6; the first 2 are too old."""

    inputs = (PLACE,)

    def __init__(self, world: World) -> None:
        self._world = world

    def cut(self, since_ms: int) -> Checkpoint:
        self._world.did("cut")
        return Checkpoint(Phase.HOLD, since_ms, 0, {PLACE: Part(2, 6, 2)})

    def begins(self) -> dict[Input, int]:
        return {PLACE: 0}

    def ends(self) -> dict[Input, int]:
        return {PLACE: END}

    def behind(self, checkpoint: Checkpoint) -> int:
        return END - checkpoint.parts[PLACE].handover

    def note_ends(self, checkpoint: Checkpoint) -> None:
        self._world.did("ends")
        checkpoint.parts[PLACE].until = END


class Reader:
    """Reads three records at a time."""

    def __init__(self, *_: object, **__: object) -> None:
        self.positions: dict[Input, int] = {}

    def read(self, ranges: Mapping[Input, tuple[int, int]]) -> Iterator[list[int]]:
        self.positions = {PLACE: ranges[PLACE][0]}
        begin, end = ranges[PLACE]
        for offset in range(begin, end, 3):
            self.positions[PLACE] = min(offset + 3, end)
            yield list(range(offset, self.positions[PLACE]))


class Store:
    def __init__(self, world: World) -> None:
        self._world = world

    def load(self, inputs: list[Input]) -> Checkpoint | None:
        self._world.did("load")
        return _copy(self._world.saved)

    def begin(self, checkpoint: Checkpoint) -> None:
        self.save(checkpoint)

    def save(self, checkpoint: Checkpoint) -> None:
        self._world.did(f"save {checkpoint.phase} {checkpoint.parts[PLACE].position}")
        self._world.saved = _copy(checkpoint)


class Sender:
    acknowledged: Mapping[int, int] = {}

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def hold(self, *_: str) -> None:
        self._world.did("hold")

    def release(self, *_: str) -> None:
        self._world.did("release")

    def flush(self) -> None:
        self._world.did("acknowledged")


def _output(world: World, name: str) -> Callable[..., Any]:
    class Output:
        is_full = True  # so that it settles after each batch

        def __init__(self, *_: object) -> None:
            pass

        def take(self, messages: list[int]) -> None:
            world.did(f"{name} {messages[0]}-{messages[-1]}")

        def settle(self) -> int:
            world.did("settled")
            return 1

    return Output


def _copy(checkpoint: Checkpoint | None) -> Checkpoint | None:
    if checkpoint is None:
        return None
    parts = {
        place: Part(part.start, part.handover, part.position, part.until)
        for place, part in checkpoint.parts.items()
    }
    return Checkpoint(
        checkpoint.phase, checkpoint.since_ms, checkpoint.begun_ms, parts, checkpoint.ended_ms
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    ours = World()
    monkeypatch.setattr(backfill, "consumer", lambda *_, **__: Client())
    monkeypatch.setattr(backfill, "Sender", lambda _: Sender(ours))
    monkeypatch.setattr(backfill, "InputLog", lambda *_: Log(ours))
    monkeypatch.setattr(backfill, "CheckpointStore", lambda *_: Store(ours))
    monkeypatch.setattr(backfill, "LogBegin", lambda *_: _LogBegin())
    monkeypatch.setattr(backfill, "LogReader", Reader)
    monkeypatch.setattr(backfill, "LearnOutput", _output(ours, "learn"))
    monkeypatch.setattr(backfill, "ResendOutput", _output(ours, "tell"))
    return ours


class _LogBegin:
    time_ms = None

    def look(self, _: object) -> None:
        pass


def run(**options: bool) -> BackfillResult:
    ruleset, _ = RuleSet.compile([new_terms_rule()], FieldTable.builtin())
    return Backfill(Settings(), ruleset.runnable[0]).run(**options)


WHOLE = [
    "load",
    "cut",
    "load",  # after the cut: several may begin at once, and each hand-over has to do
    "save hold 2",
    "hold",
    "acknowledged",  # the hold is in the log before anybody takes it for done
    "save choose 2",
    "save learn 2",  # the choice, before the first term is learned: afterwards all look known
    "learn 2-4",
    "settled",  # a position is saved behind what lies before it
    "save learn 5",
    "learn 5-5",
    "settled",
    "save learn 6",
    "settled",
    "save learn 6",
    "save release 6",
    "release",
    "acknowledged",  # the end is asked for after the release: what comes later, workers judge
    "ends",
    "save tell 6",
    "tell 6-8",  # from the hand-over to the end: no record is left out or learned twice
    "settled",
    "save tell 9",
    "settled",
    "save tell 9",
    "save done 9",
]


def test_each_step_is_durable_before_the_next(world: World):
    result = run()

    assert WHOLE == world.journal
    assert (True, 7) == (result.is_done, result.read)


@pytest.mark.parametrize("number", range(3, len(WHOLE)))
def test_one_that_dies_anywhere_goes_on_at_what_was_saved_last(world: World, number: int):
    """Nothing that was not settled is left out, and nothing behind a saved position is repeated."""
    world.die_at(WHOLE[number], WHOLE[:number].count(WHOLE[number]))
    with pytest.raises(_DiedError):
        run()
    assert WHOLE[:number] == world.journal
    world.live_again()

    result = run(known=False)

    assert result.is_done
    saved = [n for n, done in enumerate(WHOLE[:number]) if done.startswith("save")]
    if not saved:
        assert WHOLE == world.journal
        return
    last = saved[-1]
    assert ["load", WHOLE[last]] == world.journal[:2]
    left = [done for done in WHOLE[last + 1 :] if _is_work(done)]
    assert left == [done for done in world.journal[2:] if _is_work(done)]


def _is_work(step: str) -> bool:
    return step.split(maxsplit=1)[0] in {"hold", "learn", "release", "ends", "tell"}


def test_a_history_that_looks_known_because_it_was_half_learned_is_learned_to_its_end(world: World):
    world.die_at("save learn 5")
    with pytest.raises(_DiedError):
        run()
    world.live_again()

    run(known=True)  # as the rows of the first batch say

    assert ["learn 2-4", "learn 5-5"] == [s for s in world.journal if s.startswith("learn")]


def test_a_history_that_was_alive_is_not_learned_and_that_is_noted(world: World):
    run(known=True)

    assert [] == [step for step in world.journal if step.startswith("learn")]
    assert world.journal.index("save learn 6") < world.journal.index("release")

"""Backfill: a rule learns from the retained log and then goes live, without a gap in between.

The input log of each partition is cut at one offset, the *hand-over*. What lies before it, back to
`since`, is learned without raising alerts. What lies at or after it is judged, and raises an alert
if it is new. There are six steps. Each of them may be repeated without harm, so a backfill that was
stopped continues with the step that it was in (`pipeline.history.checkpoint`):

1. The hand-over is noted: what the workers have committed by now.
2. A `Hold` is sent to every partition of the observations topic. From that record on, no sighting
   of this history counts, wherever it comes from.
3. It is noted whether there is anything to learn. There is not if the history was alive before.
   This has to be noted before the first term is learned, since afterwards every history looks
   alive.
4. The rule judges the log from `since` to the hand-over, and every match becomes a `Learn`.
5. A `Release` is sent to every partition. Sightings count again, in a history that now knows the
   log.
6. The rule judges the log once more, from the hand-over to the end that it has now, and its matches
   are sent as observations: those that the workers sent while the history was held did not count.

Why this is correct:

* *No gap.* Take any record at or after the hand-over. If it was appended after the end for step 6
  was noted, a worker reads it after the release was acknowledged, so its observation comes after
  the release. Otherwise step 6 sends its observation. Either way it is judged after the release,
  unless it was already judged before the hold.
* *No false alerts.* At the release, everything before the hand-over is in the history.
* *No duplicates.* If an observation comes twice, from a worker and from step 6, the second one
  finds its own term known. If it did raise an alert, that alert would have the same id.

Several workers may begin the same backfill at once; the last checkpoint to be saved counts. Each of
them reads the committed offsets *before* it finds that there is no checkpoint, hence before any of
them has sent a hold. So each of their hand-overs is valid. If one of them sends its hold late, when
another has already finished, the worker that owns the partition finds that hold
(`pipeline.stream.backfills`), and steps 5 and 6 undo it.

A history that is alive may be backfilled too. What lies before the hand-over was committed before
the hold, so its sightings were judged before the hold. The only cost is a delay: what comes in
between is judged at the end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer

from pipeline.clock import now_ms
from pipeline.config import Settings
from pipeline.history.checkpoint import (
    Checkpoint,
    CheckpointStore,
    Input,
    Part,
    Phase,
    backfill_group,
    begun_groups,
)
from pipeline.history.input_log import InputLog, LogBegin
from pipeline.history.log_judge import LogJudge
from pipeline.history.log_outputs import LearnOutput, LogOutput, ResendOutput
from pipeline.history.log_reader import LogReader
from pipeline.history.sender import Sender
from pipeline.kafka.clients import consumer
from pipeline.rules import CompiledRule, RuleSet
from pipeline.rules.timestamp import format_timestamp

_SAVE_SECONDS: Final = 5.0
_BUFFER_KIB: Final = 16_384


@dataclass(slots=True)
class BackfillResult:
    """What a run did.

    Attributes:
        rule_id: the rule.
        history: its history.
        since_ms: how far back it learns, epoch milliseconds.
        resumed: it continued a backfill that was begun before.
        was_done: it found the backfill done already, and did nothing unless the history was held.
        phase: where it ended: `Phase.DONE`, or where it was stopped.
        read: records read.
        learned: `Learn` records sent. A term counts once per checkpoint interval in which it was
            seen.
        resent: observations that were sent again, for sightings after the hand-over.
        behind: records that lay at or after the hand-over when it was noted; they are judged.
        log_begins_ms: timestamp of the oldest record if the log does not reach back to `since_ms`,
            else None.
        skipped: records that could not be used, by reason.
        sent_to: the offset of the last record that was sent to each partition of the observations
            topic.
    """

    rule_id: str
    history: str
    since_ms: int = 0
    resumed: bool = False
    was_done: bool = False
    phase: Phase = Phase.HOLD
    read: int = 0
    learned: int = 0
    resent: int = 0
    behind: int = 0
    log_begins_ms: int | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    sent_to: dict[int, int] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase is Phase.DONE

    def summary(self) -> dict[str, Any]:
        """Return the result as plain data, fit for JSON."""
        begins = self.log_begins_ms
        return {
            "rule_id": self.rule_id,
            "history": self.history,
            "since": format_timestamp(self.since_ms),
            "log_begins": None if begins is None else format_timestamp(begins),
            "resumed": self.resumed,
            "was_done": self.was_done,
            "done": self.is_done,
            "read": self.read,
            "learned": self.learned,
            "told": self.resent,  # the name that scripts know
            "behind": self.behind,
            "skipped": dict(sorted(self.skipped.items())),
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        phase: the present phase.
        done: records of the phase's range that are done, including those of earlier runs.
        total: records in the phase's range.
        read: records read by this run, in all phases.
    """

    phase: Phase
    done: int
    total: int
    read: int


class Begun(NamedTuple):
    """A rule whose backfill has just begun, and the number of rules left to begin."""

    rule_id: str
    left: int


def begin_backfills(settings: Settings, ruleset: RuleSet) -> Iterator[Begun]:
    """Begin the backfill of each rule that runs and has none yet, one after another.

    Raises like `Backfill.run`. Backfills that were begun stay so, and are skipped the next time.
    """
    by_group = {
        backfill_group(settings.kafka.group_id, each.history_id): each
        for each in ruleset.runnable
        if each.terms
    }
    with closing(consumer(settings)) as client:
        inputs = InputLog(settings, client).inputs
    begun = begun_groups(settings, by_group, inputs)
    new = [compiled for group, compiled in by_group.items() if group not in begun]
    for left, compiled in zip(range(len(new) - 1, -1, -1), new, strict=True):
        Backfill(settings, compiled).begin()
        yield Begun(compiled.rule.rule_id, left)


class Backfill:
    """The backfill of one rule.

    Args:
        settings: how to connect, and how records are judged.
        compiled: the rule, which must have new-terms fields.
        back_ms: how far back it learns; None for as far as the rule's history.
        again: start over even if a backfill was done or begun before.
        max_rate: the maximum number of records to read per second.
        on_progress: called now and then.
        stopped: asked now and then whether to stop; the next run continues from there.
    """

    def __init__(
        self,
        settings: Settings,
        compiled: CompiledRule,
        *,
        back_ms: int | None = None,
        again: bool = False,
        max_rate: float | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        if back_ms is None:
            back_ms = compiled.rule.new_terms.history_ms if compiled.rule.new_terms else 0
        self._since_ms = now_ms() - back_ms
        self._again = again
        self._max_rate = max_rate
        self._on_progress = on_progress
        self._stopped = stopped
        self._known = self._held = False
        self._judge = LogJudge(settings, compiled)
        self._result = BackfillResult(
            compiled.rule.rule_id, compiled.history_id, skipped=self._judge.skipped
        )

    def begin(self) -> None:
        """Note the hand-over and hold the history, unless that was done before.

        From then on none of its sightings counts until `run` releases it. Raises like `run`.
        """
        self._continue(until=Phase.CHOOSE)

    def run(self, *, known: bool = False, held: bool = False) -> BackfillResult:
        """Do what is left to do; if nothing is, commit the checkpoint again, so that it is kept.

        Args:
            known: the history is not new; if it is not being learned yet, there is nothing to
                learn.
            held: the history is held, even if the checkpoint says that nothing is left to do.

        Raises:
            BrokerError: no broker answers, or a topic is missing.
            DeliveryError: a record was not acknowledged.
            StateError: a newer version of firstseen began the backfill.
        """
        self._known, self._held = known, held
        self._continue(until=Phase.DONE)
        return self._result

    def _continue(self, *, until: Phase) -> None:
        """Open the clients, and continue from the checkpoint up to a phase."""
        group = backfill_group(self._settings.kafka.group_id, self._result.history)
        client = consumer(
            self._settings,
            group_id=group,
            enable_partition_eof=True,
            queued_max_messages_kbytes=_BUFFER_KIB,
            fetch_error_backoff_ms=10,  # an unreadable batch is skipped, see LogReader
        )
        with closing(client), Sender(self._settings) as sender:
            log = InputLog(self._settings, client)
            store = CheckpointStore(self._settings, client, group)
            checkpoint = self._checkpoint(log, store)
            begin = LogBegin(log, checkpoint)
            steps = _Steps(checkpoint, client, store, sender, begin)
            self._do_steps(steps, until)
            self._result.log_begins_ms = begin.time_ms
            self._result.sent_to = dict(sender.acknowledged)

    def _checkpoint(self, log: InputLog, store: CheckpointStore) -> Checkpoint:
        """Return the checkpoint to continue from, which may be a new one."""
        found = store.load(log.inputs)
        if found is None or self._again:
            cut = log.cut(self._since_ms)
            found = store.load(log.inputs)  # loaded after the cut: see the top of this module
            if found is None or self._again:
                return self._begin_anew(log, store, cut, found)
        self._result.was_done = found.phase is Phase.DONE
        self._result.resumed = not self._result.was_done
        if found.phase is Phase.DONE and self._held:
            found.go_back_to_release()
        store.save(found)
        self._note(found)
        return found

    def _begin_anew(
        self, log: InputLog, store: CheckpointStore, cut: Checkpoint, found: Checkpoint | None
    ) -> Checkpoint:
        if found is not None:
            cut.keep_handover(found)
        store.begin(cut)
        self._result.behind = log.behind(cut)
        self._note(cut)
        return cut

    def _note(self, checkpoint: Checkpoint) -> None:
        self._result.since_ms = checkpoint.since_ms
        self._result.phase = checkpoint.phase

    def _do_steps(self, steps: _Steps, until: Phase) -> None:
        """Do the steps that are left, and save after each."""
        checkpoint, sender = steps.checkpoint, steps.sender
        rule_id, history = self._result.rule_id, self._result.history
        while list(Phase).index(checkpoint.phase) < list(Phase).index(until):
            match checkpoint.phase:
                case Phase.HOLD:
                    sender.hold(rule_id, history)
                    sender.flush()
                    checkpoint.phase = Phase.CHOOSE
                case Phase.CHOOSE:
                    if self._known:
                        checkpoint.learn_nothing()
                    checkpoint.phase = Phase.LEARN
                case Phase.LEARN:
                    self._result.learned += self._read(steps, LearnOutput(self._judge, sender))
                    if not _is_read(checkpoint):
                        return
                    checkpoint.phase = Phase.RELEASE
                case Phase.RELEASE:
                    sender.release(rule_id, history)
                    sender.flush()
                    # The topics as they are now: one may have got more partitions in the meantime.
                    InputLog(self._settings, steps.client).note_ends(checkpoint)
                    checkpoint.phase = Phase.RESEND
                case _:
                    resending = ResendOutput(self._judge, sender, self._settings)
                    self._result.resent += self._read(steps, resending)
                    if not _is_read(checkpoint):
                        return
                    checkpoint.phase = Phase.DONE
                    checkpoint.ended_ms = now_ms()
            steps.store.save(checkpoint)
            self._result.phase = checkpoint.phase

    def _read(self, steps: _Steps, output: LogOutput) -> int:
        """Read what is left of the phase's range; return how many records were sent.

        A position is saved only after what was read before it has been acknowledged.
        """
        checkpoint, parts = steps.checkpoint, steps.checkpoint.parts
        _limit_to_log(checkpoint, InputLog(self._settings, steps.client).ends())
        reader = LogReader(
            self._settings, steps.client, max_rate=self._max_rate, stopped=self._stopped
        )
        ranges = {place: _range(checkpoint.phase, part) for place, part in parts.items()}
        begins = sum(begin for begin, _ in ranges.values())
        total = sum(end for _, end in ranges.values()) - begins
        sent, saved = 0, time.monotonic()
        for messages in reader.read(
            {p: (parts[p].position, end) for p, (_, end) in ranges.items()}
        ):
            self._result.read += len(messages)
            steps.begin.look(messages)
            output.take(messages)
            if output.is_full or time.monotonic() - saved > _SAVE_SECONDS:
                sent += output.settle()
                steps.save(reader.positions)
                saved = time.monotonic()
            done = sum(reader.positions.values()) - begins
            self._on_progress(Progress(checkpoint.phase, done, total, self._result.read))
        sent += output.settle()
        steps.save(reader.positions)
        return sent


@dataclass(frozen=True, slots=True)
class _Steps:
    """What the steps work with: the checkpoint, and the clients while they are open."""

    checkpoint: Checkpoint
    client: Consumer
    store: CheckpointStore
    sender: Sender
    begin: LogBegin

    def save(self, positions: Mapping[Input, int]) -> None:
        """Save how far the log has been read."""
        for place, position in positions.items():
            self.checkpoint.parts[place].position = position
        self.store.save(self.checkpoint)


def _limit_to_log(checkpoint: Checkpoint, ends: Mapping[Input, int]) -> None:
    """Limit offsets to what exists: the log of an input that was recreated is shorter."""
    for place, part in checkpoint.parts.items():
        end = ends.get(place, 0)
        if part.handover > end:
            part.start, part.handover = min(part.start, end), end
        if part.until is not None and part.until > end:
            part.until = end
        part.position = min(part.position, end)


def _is_read(checkpoint: Checkpoint) -> bool:
    """Whether the range of the phase has been read."""
    return all(
        part.position >= _range(checkpoint.phase, part)[1] for part in checkpoint.parts.values()
    )


def _range(phase: Phase, part: Part) -> tuple[int, int]:
    """Return the offsets that a phase reads, start and end."""
    if phase is Phase.LEARN:
        return part.start, part.handover
    return part.handover, part.handover if part.until is None else part.until

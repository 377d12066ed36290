"""First seen and quota under every crash that the promises of their drivers allow.

The tables here remember each write in order, as a changelog does. A crash keeps a prefix of that
order, never shorter than what was acknowledged. It loses the local table, which is then rebuilt from
the prefix, or leaves it as it is (ahead of its changelog), or leaves it and puts what the changelog
holds since the last commit over it, as a worker does that finds its old state folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.engine.first_seen import FirstSeen, FirstSeenVerdict
from pipeline.engine.identity import summary_id
from pipeline.engine.learning import LearningPeriods
from pipeline.engine.quota import Output, Quota, Verdict
from pipeline.engine.quota_rows import decode_id
from pipeline.engine.row_counts import RowCounts
from pipeline.engine.sweep import Sweep, SweepSettings
from pipeline.engine.tables import MemoryTable
from pipeline.engine.wire import (
    CloseWindow,
    Forget,
    Hold,
    Learn,
    NewTerm,
    Observation,
    Release,
    RuleRef,
    Source,
)


@dataclass
class ChangelogTable:
    """A table with a changelog that a crash can cut."""

    rows: MemoryTable = field(default_factory=MemoryTable)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    acknowledged: int = 0
    persisted: int = 0

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.rows.put(key, value)
        self.changelog.append((key, value))

    def delete(self, key: bytes) -> None:
        self.rows.delete(key)
        self.changelog.append((key, None))

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.items()

    def items_from(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.items_from(start)

    def acknowledge(self) -> None:
        self.acknowledged = len(self.changelog)

    def commit(self) -> None:
        """Note that the local table holds all of the changelog as far as it is acknowledged."""
        self.persisted = self.acknowledged

    def bundle(self, begin: int) -> None:
        """Keep one record a key of those since `begin`, in the order of the last write to each."""
        latest: dict[bytes, bytes | None] = {}
        for key, value in self.changelog[begin:]:
            latest.pop(key, None)
            latest[key] = value
        self.changelog[begin:] = latest.items()

    def crash(self, lost: int, *, local_copy: bool | str) -> None:
        """Lose up to `lost` unacknowledged changelog records, and the local copy perhaps."""
        del self.changelog[max(self.acknowledged, len(self.changelog) - lost) :]
        self.acknowledge()
        if not local_copy:
            self.rows = MemoryTable()
            self.persisted = 0
        if local_copy is not True:
            for key, value in self.changelog[self.persisted :]:
                if value is None:
                    self.rows.delete(key)
                else:
                    self.rows.put(key, value)


WINDOW_MS = 100
RULE = RuleRef("rule", "Rule", 1, "low", 21, 3, 10, ("process.executable",))


def observation(term: str, time_ms: int, number: int) -> Observation:
    return Observation(
        rule=RULE,
        history="00" * 8,
        window_ms=WINDOW_MS,
        terms=(term,),
        time_ms=time_ms,
        event_id=f"event-{number}",
        alert_id=f"alert-{number}",
        source=Source("topic", 0, number, 0),
        event=msgspec.Raw(b"{}"),
    )


sightings = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 600)), min_size=1, max_size=25
)

# What happens after a number of records: the commit of a part of them, or a crash.
incidents = st.lists(
    st.tuples(
        st.integers(1, 8),
        st.one_of(
            st.tuples(st.just("commit"), st.integers(0, 4)),
            st.tuples(st.just("crash"), st.integers(0, 30), st.booleans()),
        ),
    ),
    max_size=12,
)


def run_through(
    records: int,
    plan: list[tuple[int, tuple[object, ...]]],
    table: ChangelogTable,
    process: Callable[[range, int], None],
) -> None:
    """Process a log of so many records amid the incidents of a plan.

    `process` is told which offsets, and up to where all is committed.
    """
    position = committed = 0
    for count, (incident, *details) in plan:
        until = min(position + count, records)
        process(range(position, until), committed)
        position = until
        if incident == "commit":
            # Everything so far is acknowledged; the commit may be behind it.
            table.acknowledge()
            committed = max(committed, position - int(str(details[0])))
        else:
            table.crash(int(str(details[0])), local_copy=bool(details[1]))
            position = committed
    process(range(position, records), committed)


def expected_verdicts(log: list[tuple[str, int]]) -> dict[str, int | None]:
    """The naive model: alert id to previous time of each sighting that is new."""
    last: dict[str, int] = {}
    new: dict[str, int | None] = {}
    for number, (term, time_ms) in enumerate(log):
        if term not in last or last[term] < time_ms - WINDOW_MS:
            new[f"alert-{number}"] = last.get(term)
        last[term] = max(last.get(term, time_ms), time_ms)
    return new


@settings(max_examples=400)
@given(sightings, incidents, st.booleans())
def test_first_seen_tells_each_new_sighting_at_least_once_and_no_other(
    log: list[tuple[str, int]], plan: list[tuple[int, tuple[object, ...]]], stale: bool
) -> None:
    table = ChangelogTable()
    told: dict[str, set[int | None]] = {}

    def process(offsets: range, committed: int) -> None:
        first_seen = FirstSeen(table)
        for offset in offsets:
            term, time_ms = log[offset]
            seen = first_seen.observe(
                observation(term, time_ms, offset), offset, 0 if stale else committed
            )
            if seen.new:
                told.setdefault(f"alert-{offset}", set()).add(seen.previous_ms)

    run_through(len(log), plan, table, process)

    assert told == {alert: {previous} for alert, previous in expected_verdicts(log).items()}


# What the observations topic holds: sightings, and what history commands send.
changes = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.sampled_from("abc"), st.integers(0, 600)),
        st.tuples(st.just("learn"), st.sampled_from("abc"), st.integers(0, 600)),
        st.tuples(st.just("forget"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("forget all"), st.just(""), st.just(0)),
        st.tuples(st.just("hold"), st.just(""), st.just(0)),
        st.tuples(st.just("release"), st.just(""), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)

Change = tuple[str, str, int]

# A history that is held and released in the middle: by chance the two seldom stand like that.
few_changes = st.lists(
    st.tuples(
        st.sampled_from(["see", "see", "learn"]), st.sampled_from("abc"), st.integers(0, 600)
    ),
    max_size=6,
)
held_between: st.SearchStrategy[list[Change]] = st.builds(
    lambda before, meanwhile, after: [
        *before,
        ("hold", "", 0),
        *meanwhile,
        ("release", "", 0),
        *after,
    ],
    few_changes,
    few_changes,
    few_changes,
)


def expected_of_changes(log: list[Change]) -> dict[str, int | None]:
    """The naive model, with learning, forgetting and holding."""
    last: dict[str, int] = {}
    new: dict[str, int | None] = {}
    held = False
    for number, (what, term, time_ms) in enumerate(log):
        if what in {"hold", "release"}:
            held = what == "hold"
        elif what == "see" and held:
            pass
        elif what == "forget":
            last.pop(term, None)
        elif what == "forget all":
            last.clear()
        else:
            if what == "see" and (term not in last or last[term] < time_ms - WINDOW_MS):
                new[f"alert-{number}"] = last.get(term)
            last[term] = max(last.get(term, time_ms), time_ms)
    return new


def apply(
    first_seen: FirstSeen, change: Change, offset: int, committed: int
) -> FirstSeenVerdict | None:
    what, term, time_ms = change
    if what == "see":
        return first_seen.observe(observation(term, time_ms, offset), offset, committed)
    if what == "hold":
        first_seen.hold(Hold(RULE.id, "00" * 8), offset, committed)
    elif what == "release":
        first_seen.release(Release(RULE.id, "00" * 8), offset)
    elif what == "learn":
        learned = Learn(RULE.id, "00" * 8, WINDOW_MS, (term,), time_ms, time_ms)
        first_seen.learn(learned, offset, committed)
    else:
        row = observation(term, 0, 0).key().hex() if term else ""
        first_seen.forget(Forget(RULE.id, "00" * 8, row), offset, committed)
    return None


@settings(max_examples=400)
@given(st.one_of(changes, held_between), incidents, st.integers(1, 5))
def test_learning_forgetting_holding_and_sweeping_keep_the_promise(
    log: list[Change], plan: list[tuple[int, tuple[object, ...]]], slice_rows: int
) -> None:
    table = ChangelogTable()
    told: dict[str, set[int | None]] = {}

    def process(offsets: range, committed: int) -> None:
        first_seen, row_counts = FirstSeen(table), RowCounts()
        sweep = Sweep(
            table, row_counts, first_seen.forgotten, first_seen.clock, SweepSettings(None, 0)
        )
        for offset in offsets:
            seen = apply(first_seen, log[offset], offset, committed)
            if seen is not None and seen.new:
                told.setdefault(f"alert-{offset}", set()).add(seen.previous_ms)
            if sweep.step(0, committed, rows=slice_rows, removals=slice_rows):
                table.acknowledge()  # the driver waits for this before it judges again

    run_through(len(log), plan, table, process)

    assert told == {alert: {previous} for alert, previous in expected_of_changes(log).items()}


@settings(max_examples=200)
@given(sightings, st.integers(0, 25))
def test_a_replay_of_a_whole_log_gives_the_same_sightings_of_new_terms(
    log: list[tuple[str, int]], start: int
) -> None:
    table = MemoryTable()
    first_seen = FirstSeen(table)
    observations = [observation(term, time, n) for n, (term, time) in enumerate(log)]
    first = [first_seen.observe(each, n, 0) for n, each in enumerate(observations)]

    start %= len(log)
    again = [first_seen.observe(observations[n], n, 0) for n in range(start, len(log))]

    for before, after in zip(first[start:], again, strict=True):
        assert after.repeated
        assert after.new == before.new
        if before.new:
            assert (after.previous_ms, after.first_ms, after.last_ms, after.count) == (
                before.previous_ms,
                before.first_ms,
                before.last_ms,
                before.count,
            )


def candidate(number: int, *, time_ms: int = 0, history: str = "") -> NewTerm:
    return NewTerm(
        alert_id=f"alert-{number}",
        rule=RULE,
        terms=(f"term-{number}",),
        time_ms=time_ms,
        source_timestamp_ms=0,
        alert=msgspec.Raw(b'{"number":%d}' % number),
        history=history,
    )


@dataclass
class QuotaDriver:
    """Keeps the three promises that the quota asks of its driver, and counts what it sends."""

    log: list[NewTerm | CloseWindow]
    bundled: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    table: ChangelogTable = field(default_factory=ChangelogTable)
    sent: Counter[tuple[str, bytes, bytes]] = field(default_factory=Counter)
    waiting: list[Output] = field(default_factory=list)
    position: int = 0
    committed: int = 0
    quota: Quota = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.quota = Quota(self.table, **self.options)
        self.quota.recover(self.table.items())
        self.position = self.committed

    def process(self, records: int, clock: list[int]) -> None:
        begin = len(self.table.changelog)
        for offset in range(self.position, min(self.position + records, len(self.log))):
            entry, now_ms = self.log[offset], clock[offset]
            decide = self.quota.close if isinstance(entry, CloseWindow) else self.quota.admit
            decision = decide(entry, offset, now_ms, self.committed)  # type: ignore[arg-type]
            self.waiting += decision.outputs
            self.position = offset + 1
        if self.bundled:
            self.table.bundle(begin)

    def send(self) -> None:
        """State first: the outputs leave once the changelog has everything written."""
        self.table.acknowledge()
        self.sent.update((out.destination, out.key, out.value) for out in self.waiting)
        self.waiting.clear()

    def commit(self, behind: int) -> None:
        self.send()
        self.table.commit()
        self.committed = max(self.committed, self.position - behind)

    def crash(self, lost: int, *, local_copy: bool | str) -> None:
        self.waiting.clear()
        self.table.crash(lost, local_copy=local_copy)
        self.start()


# Mostly distinct candidates, some told twice, and ticks (None).
entries = st.lists(
    st.sampled_from(["next", "next", "next", "again", "tick"]), min_size=1, max_size=40
).map(lambda kinds: [*_entries(kinds)])


def _entries(kinds: list[str]) -> Iterator[NewTerm | None]:
    for number, kind in enumerate(kinds):
        if kind == "tick":
            yield None
        else:
            yield candidate(number if kind == "next" else number // 2)


# Small losses cut between the writes of one candidate, large ones take all that is not
# acknowledged.
losses = st.sampled_from([0, 1, 1, 2, 3, 5, 60])
local_copies = st.sampled_from([False, True, "changelog over it"])
quota_incidents = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.one_of(
            st.tuples(st.just("commit"), st.integers(0, 4)),
            st.tuples(st.just("send")),
            st.tuples(st.just("crash"), losses, local_copies),
            st.tuples(st.just("crash"), losses, local_copies),
        ),
    ),
    max_size=20,
)
ticking = st.lists(st.sampled_from([0, 0, 0, 1, 2, 6]), min_size=40, max_size=40)


def with_ticks(log: list[NewTerm | None], clock: list[int]) -> list[NewTerm | CloseWindow]:
    """Replace None by the tick of the window before the moment it is read at."""
    return [
        CloseWindow(RULE, clock[n] - clock[n] % RULE.interval_ms - RULE.interval_ms)
        if entry is None
        else entry
        for n, entry in enumerate(log)
    ]


def run(
    driver: QuotaDriver,
    plan: list[tuple[int, tuple[object, ...]]],
    clocks: Iterator[list[int]],
) -> None:
    clock = next(clocks)
    for records, (incident, *details) in plan:
        driver.process(records, clock)
        if incident == "commit":
            driver.commit(int(str(details[0])))
        elif incident == "send":
            driver.send()
        else:
            driver.crash(int(str(details[0])), local_copy=details[1])  # type: ignore[arg-type]
            clock = next(clocks)
    driver.process(len(driver.log), clock)
    driver.commit(0)


def steady(steps: list[int]) -> list[int]:
    """A clock that goes on with each record by the steps given."""
    now, clock = 1_000, []
    for step in steps:
        now += step
        clock.append(now)
    return clock


def set_anew(clock: list[int], shifts: list[int]) -> Iterator[list[int]]:
    """The clock as it is set by one shift after the other, at each start of a worker."""
    return ([now + shift for now in clock] for shift in shifts)


@settings(max_examples=500)
@given(entries, ticking, quota_incidents, st.booleans())
def test_crashes_change_no_output_of_the_quota(
    log: list[NewTerm | None],
    steps: list[int],
    plan: list[tuple[int, tuple[object, ...]]],
    bundled: bool,
) -> None:
    """When each record is read at the same moment again, the outputs are those of no crash."""
    clock = steady(steps)
    undisturbed = QuotaDriver(with_ticks(log, clock))
    undisturbed.process(len(log), clock)
    undisturbed.send()
    driver = QuotaDriver(with_ticks(log, clock), bundled)

    run(driver, plan, iter(lambda: clock, None))

    assert set(driver.sent) == set(undisturbed.sent)
    assert set(undisturbed.sent.values()) <= {1}


def told_once(driver: QuotaDriver) -> Counter[tuple[str, int]]:
    """Assert that each candidate was sent, to one topic and with one content.

    Returns:
        How many candidates have each verdict in each window, by its start.
    """
    where: dict[bytes, set[str]] = {}
    for destination, key, _ in driver.sent:
        where.setdefault(key, set()).add(destination)
    expected = {entry.alert_id.encode() for entry in driver.log if isinstance(entry, NewTerm)}
    assert expected <= set(where), "an alert is lost"
    assert all(len(topics) == 1 for topics in where.values()), "an alert went to both topics"
    values = Counter(key for _, key, _ in driver.sent)
    assert set(values.values()) <= {1}, "an id came with two contents"
    decided = [
        decode_id(value)
        for key, value in driver.table.items()
        if key in {b"i" + alert for alert in expected}
    ]
    return Counter((row.verdict, row.start_ms) for row in decided)


def summaries(driver: QuotaDriver) -> dict[bytes, int]:
    """Return how many overflowed by each summary that was sent."""
    return {
        key: detection["overflow"]["count"]
        for _, key, value in driver.sent
        if "overflow" in (detection := msgspec.json.decode(value).get("detection", {}))
    }


@settings(max_examples=500)
@given(
    entries,
    ticking,
    st.lists(st.integers(-15, 60), min_size=21, max_size=21),
    quota_incidents,
    st.booleans(),
)
# Two crashes, the first of which leaves the local table ahead of its changelog.
@example(
    [candidate(number) for number in range(6)],
    [0] * 40,
    [0] * 21,
    [(5, ("crash", 5, True)), (3, ("commit", 0)), (1, ("crash", 0, False))],
    False,
)
# A tick that came too early, and is replayed when its window is over.
@example(
    [*(candidate(number) for number in range(4)), None, candidate(5)],
    [0] * 40,
    [-1] + [0] * 20,
    [(6, ("crash", 1, False))],
    False,
)
def test_the_quota_holds_whatever_the_clock_does_between_crashes(
    log: list[NewTerm | None],
    steps: list[int],
    shifts: list[int],
    plan: list[tuple[int, tuple[object, ...]]],
    bundled: bool,
) -> None:
    clock = steady(steps)
    driver = QuotaDriver(with_ticks(log, clock), bundled)

    run(driver, plan, set_anew(clock, shifts))

    windows = told_once(driver)
    assert all(number <= 3 for (verdict, _), number in windows.items() if verdict == "alert")
    open_windows = {tick.window_start_ms for tick in driver.quota.ended(10**15)}
    assert summaries(driver) == {
        summary_id(RULE.id, start_ms).encode(): number
        for (verdict, start_ms), number in windows.items()
        if verdict == "overflow" and start_ms not in open_windows
    }


@settings(max_examples=500)
@given(
    entries,
    ticking,
    st.lists(st.sampled_from([-5_000, -100, -15, 0, 0, 15, 100, 5_000]), min_size=21, max_size=21),
    quota_incidents,
    st.booleans(),
)
# A window from far ahead is dated anew and closed in one bundle, and the window row is lost.
@example(
    [candidate(number) for number in range(7)],
    [0, 0, 0, 0, 0, 10, 0] + [0] * 33,
    [5_000] + [0] * 20,
    [(4, ("commit", 0)), (0, ("crash", 0, False)), (2, ("crash", 1, False))],
    True,
)
def test_no_clock_that_is_far_ahead_puts_off_a_summary(
    log: list[NewTerm | None],
    steps: list[int],
    shifts: list[int],
    plan: list[tuple[int, tuple[object, ...]]],
    bundled: bool,
) -> None:
    clock = steady(steps)
    driver = QuotaDriver(with_ticks(log, clock), bundled, {"max_ahead_ms": 20})
    run(driver, plan, set_anew(clock, shifts))

    # From here on the clock is right, and ticks come whenever they are asked for.
    end = clock[-1]
    for now_ms in (end, end + 20 + 2 * RULE.interval_ms):
        driver.log += driver.quota.ended(now_ms)
        driver.process(len(driver.log), [now_ms] * len(driver.log))
    driver.commit(0)

    windows = told_once(driver)
    overflowed = sum(number for (verdict, _), number in windows.items() if verdict == "overflow")
    assert sum(summaries(driver).values()) == overflowed


LEARNING_MS = 100
histories = st.lists(
    st.tuples(st.sampled_from(["next", "next", "again"]), st.integers(0, 300)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=500)
@given(histories, quota_incidents, st.booleans())
def test_learning_is_over_for_good_whatever_crashes(
    log: list[tuple[str, int]], plan: list[tuple[int, tuple[object, ...]]], bundled: bool
) -> None:
    candidates = [
        candidate(number if kind == "next" else number // 2, time_ms=time_ms, history="ab" * 8)
        for number, (kind, time_ms) in enumerate(log)
    ]
    driver = QuotaDriver(
        list(candidates), bundled, {"learning": LearningPeriods(LEARNING_MS), "sample": 0}
    )
    clock = steady([0] * len(log))

    run(driver, plan, iter(lambda: clock, None))

    # The naive model: the first of each id, in the order of the log.
    learned: dict[str, bool] = {}
    over = False
    for each in candidates:
        if each.alert_id not in learned:
            over = over or each.time_ms >= candidates[0].time_ms + LEARNING_MS
            learned[each.alert_id] = not over
    told_once(driver)
    assert {alert.encode() for alert, learns in learned.items() if learns} == {
        key for _, key, value in driver.sent if b'"learning"' in value
    }


@settings(max_examples=300)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60))
def test_summaries_account_for_every_overflow(steps: list[int]) -> None:
    clock = steady(steps)
    table = MemoryTable()
    quota = Quota(table)
    outputs: list[Output] = []
    offset = 0
    for number, now_ms in enumerate(clock):
        outputs += quota.admit(candidate(number), offset, now_ms, offset).outputs
        offset += 1
    for tick in quota.ended(clock[-1] + RULE.interval_ms):
        outputs += quota.close(tick, offset, clock[-1] + RULE.interval_ms, offset).outputs
        offset += 1

    windows = Counter(now_ms // RULE.interval_ms for now_ms in clock)
    overflowed = [number - 3 for number in windows.values() if number > 3]
    told = [msgspec.json.decode(out.value) for out in outputs if out.summary]
    assert sorted(overflowed) == sorted(
        summary["detection"]["overflow"]["count"] for summary in told
    )
    assert sum(out.destination == "overflow" for out in outputs) == sum(overflowed)
    assert quota.ended(10**15) == []


def test_the_verdict_of_a_tick_that_comes_too_early_is_no_output() -> None:
    quota = Quota(MemoryTable())
    for number in range(5):
        quota.admit(candidate(number), number, 1_000, 0)

    early = quota.close(CloseWindow(RULE, 1_000), 5, 1_009, 0)
    due = quota.close(CloseWindow(RULE, 1_000), 6, 1_010, 0)

    assert early.outputs == ()
    assert [Verdict.ALERT, 1] == [due.verdict, len(due.outputs)]

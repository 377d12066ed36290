"""What is measured against what: contestants and topics, by section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import contestants as peers
from tests.benchmarks.contestants import PEERS_IN_ORDER, Peer
from tests.benchmarks.firstseen import FIRSTSEEN, FIRSTSEEN_PYTHON, Firstseen
from tests.benchmarks.generator import PARTITIONS, Corpus, events_until_known
from tests.benchmarks.rules import write_rules


@dataclass(frozen=True)
class Extent:
    """How much a run measures.

    Attributes:
        events: number of events by the pace of a contestant.
        warm_up: events of the first pass of a JVM.
        rounds: how often everything is measured, at most.
        distinct: terms of the state benchmark that are known before it measures.
        decisions: decisions it measures.
        state_rounds: how often.
        loads: shares of the maximum rate at which latency is measured.
        load_seconds: how long each.
        seconds: time limit of the whole run.
        sections: what is measured unless asked otherwise.
    """

    events: dict[str, int]
    warm_up: int
    rounds: int
    distinct: int
    decisions: int
    state_rounds: int
    loads: tuple[float, ...]
    load_seconds: float
    seconds: float
    sections: tuple[str, ...]

    def scaled(self, factor: float) -> Extent:
        """Return the extent with so many times the events."""
        return replace(
            self,
            events={pace: max(2000, int(n * factor)) for pace, n in self.events.items()},
            warm_up=max(1000, int(self.warm_up * factor)),
            distinct=max(1000, int(self.distinct * factor)),
            decisions=max(1000, int(self.decisions * factor)),
        )


QUICK = Extent(
    events={"slow": 20_000, "medium": 60_000, "fast": 600_000},
    warm_up=250_000,
    rounds=3,
    distinct=10_000,
    decisions=10_000,
    state_rounds=1,
    loads=(0.5,),
    load_seconds=8,
    seconds=270,
    sections=("main", "state", "latency"),
)
FULL = Extent(
    events={"slow": 50_000, "medium": 250_000, "fast": 1_000_000},
    warm_up=1_000_000,
    rounds=5,
    distinct=1_000_000,
    decisions=200_000,
    state_rounds=2,
    loads=(0.1, 0.5, 0.8),
    load_seconds=30,
    seconds=3 * 3600,
    sections=(
        *("main", "rules", "depths", "codecs", "shares", "broad", "sizes", "scale"),
        *("state", "latency"),
    ),
)
MAIN = Corpus(count=0)
"""The topic of the figures that are quoted: 2.4 KB, zstd, 0.1 % candidates."""


@dataclass(frozen=True)
class Case:
    """One contestant on one topic; its name is its key in the results.

    `frozen`: the topic is filled while the workers are frozen (`firstseen.py` says why).
    """

    name: str
    contestant: Peer | Firstseen
    corpus: Corpus
    partitions: int = PARTITIONS
    frozen: bool = False


class Cases:
    """Builds the cases of a run.

    Args:
        extent: how much is measured.
        directory: an empty folder for generated rules.
    """

    def __init__(self, extent: Extent, directory: Path) -> None:
        self._extent = extent
        self._directory = directory

    def of(self, section: str) -> list[Case]:
        """Return the cases of a section that is measured in events per CPU-second."""
        return {
            "main": self._main,
            "rules": self._rules,
            "depths": self._depths,
            "codecs": self._codecs,
            "shares": self._shares,
            "broad": self._broad,
            "sizes": self._sizes,
            "scale": self._scale,
        }[section]()

    def _case(self, contestant: Peer | Firstseen, suffix: str = "", **corpus: object) -> Case:
        count = self._extent.events[contestant.pace]
        made = replace(MAIN, count=count, **corpus)  # type: ignore[arg-type]
        return Case(contestant.name + suffix, contestant, made)

    def _main(self) -> list[Case]:
        own = (FIRSTSEEN, FIRSTSEEN_PYTHON, self._with_rules(241), _at_depth("agent"))
        return [self._case(contestant) for contestant in (*own, *PEERS_IN_ORDER)]

    def _rules(self) -> list[Case]:
        sets = (
            FIRSTSEEN,
            self._with_rules(10),
            self._with_rules(100),
            self._with_rules(241),
            self._with_rules(241, indices="mixed"),
        )
        return [self._case(contestant) for contestant in sets]

    def _depths(self) -> list[Case]:
        depths = (_at_depth(depth) for depth in ("agent", "event", "record", "batch"))
        return [self._case(contestant) for contestant in depths]

    def _codecs(self) -> list[Case]:
        return [self._case(c, "@lz4", codec="lz4") for c in _FEW]

    def _shares(self) -> list[Case]:
        return [
            self._case(replace_pace(c, share), f"@{100 * share:g}%", share=share)
            for share in (0.0001, 0.01, 0.1)
            for c in (FIRSTSEEN, peers.KAFKA_STREAMS, peers.QUIX_STREAMS)
        ]

    def _broad(self) -> list[Case]:
        """A rule that matches five events of a hundred, with ten thousand terms that it knows."""
        narrow = self._case(FIRSTSEEN, "@narrow")
        broad = self._case(FIRSTSEEN, "@broad", share=0.05, terms=10_000)
        known = events_until_known(replace(broad.corpus, count=1_000_000))
        broad = replace(broad, corpus=replace(broad.corpus, count=broad.corpus.count + known))
        return [replace(case, frozen=True) for case in (narrow, broad)]

    def _sizes(self) -> list[Case]:
        return [self._case(c, f"@{size:g}KB", size=size) for size in (1.0, 4.0) for c in _FEW]

    def _scale(self) -> list[Case]:
        cases = []
        for partitions in (PARTITIONS, 64):
            for workers in (1, 2, 4):
                name = f"firstseen_{workers}_workers"
                contestant = replace(FIRSTSEEN, name=name, workers=workers)
                case = self._case(contestant, f"@{partitions}_partitions")
                cases.append(replace(case, partitions=partitions, frozen=True))
        return cases

    def _with_rules(self, count: int, indices: str = "every") -> Firstseen:
        """The worker with the built-in rule and enough generated ones to make `count`."""
        folder = self._directory / f"rules-{count}-{indices}"
        if not folder.exists():
            write_rules(folder, count - 1, indices=indices)
        suffix = "" if indices == "every" else f"_{indices}"
        title = f"firstseen, {count} rules" + (", indices of their kind" if suffix else "")
        name = f"firstseen_rules_{count}{suffix}"
        return Firstseen(name, title, rules=(folder,))


_FEW: Sequence[Peer | Firstseen] = (
    FIRSTSEEN,
    peers.DECOMPRESSION_LIMIT,
    peers.LIBRDKAFKA_LOOP,
    peers.KAFKA_STREAMS,
    peers.QUIX_STREAMS,
)


def replace_pace(contestant: Peer | Firstseen, share: float) -> Peer | Firstseen:
    """Return the contestant with fewer events where many of them match: each match is dear."""
    return replace(contestant, pace="medium") if share >= 0.01 else contestant


def _at_depth(depth: str) -> Firstseen:
    title = "the same engine on Faust's transport" if depth == "agent" else f"firstseen, {depth}"
    pace = {"agent": "slow", "event": "medium"}.get(depth, "fast")
    return Firstseen(f"firstseen_depth_{depth}", title, pace=pace, depth=depth)

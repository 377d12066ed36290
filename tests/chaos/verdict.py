"""What a run must have told: every new term of the oracle, nothing else, each under one id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.corpus import Term

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True)
class Told:
    """One record of the alerts topic or of the overflow topic.

    Attributes:
        alert_id: its key.
        term: what it tells; None for a summary.
        value: its bytes.
        place: topic and partition.
        offset: where it stands there.
        at: when the broker took it, in epoch seconds.
    """

    alert_id: str
    term: Term | None
    value: bytes
    place: Place
    offset: int
    at: float


@dataclass(frozen=True)
class Raised:
    """One record of the new-terms topic."""

    alert_id: str
    place: Place
    offset: int


@dataclass(frozen=True)
class Sample:
    """What was committed at a moment, and where the output topics ended a moment later."""

    committed: Mapping[Place, int]
    ends: Mapping[Place, int]


@dataclass
class Verdict:
    """What is wrong with a run; each list names what it counts.

    Attributes:
        lost: terms of the oracle that were not told.
        invented: terms that are not in the oracle, and terms told under a second id.
        duplicated: ids that stand in a topic again, with the same bytes, as often as they do.
        differing: ids that stand in a topic with different bytes.
        split: ids that are both among the alerts and in the overflow.
        passed: commits that went past a new term whose alert was not acknowledged.
        turned_back: commits that went back.
    """

    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    turned_back: list[str] = field(default_factory=list)


def judge(
    oracle: frozenset[Term],
    told: Sequence[Told],
    raised: Sequence[Raised] = (),
    samples: Sequence[Sample] = (),
) -> Verdict:
    """Compare what was told with what is true."""
    verdict = Verdict(
        passed=_passed(raised, told, samples), turned_back=list(_turned_back(samples))
    )
    by_id: dict[str, list[Told]] = defaultdict(list)
    ids: dict[Term, list[str]] = defaultdict(list)
    for record in told:
        by_id[record.alert_id].append(record)
        if record.term is not None and record.alert_id not in ids[record.term]:
            ids[record.term].append(record.alert_id)
    verdict.lost = [_name(term) for term in sorted(oracle - set(ids))]
    for term, names in ids.items():
        too_many = names[1:] if term in oracle else names
        verdict.invented += [f"{_name(term)} as {alert_id}" for alert_id in too_many]
    for alert_id, records in by_id.items():
        first = records[0]
        verdict.duplicated += [alert_id for record in records[1:] if record.value == first.value]
        if len({record.value for record in records}) > 1:
            verdict.differing.append(alert_id)
        if len({record.place[0] for record in records}) > 1:
            verdict.split.append(alert_id)
    return verdict


def recovery_seconds(
    ends: Iterable[float], sent: Mapping[Term, float], told: Sequence[Told]
) -> list[float]:
    """Return, for the end of each fault, how long it took until all that was sent before was told.

    A kill ends at once, so its figure is the whole outage; of a fault that lasts it is the time
    after it was lifted. Other faults may fall into that time, and make it longer.
    """
    first: dict[Term, float] = {}
    for record in told:
        if record.term is not None:
            first[record.term] = min(record.at, first.get(record.term, record.at))
    figures = []
    for end in ends:
        late = [first[term] - end for term, at in sent.items() if at <= end and term in first]
        figures.append(max(0.0, *late) if late else 0.0)
    return figures


def _passed(raised: Sequence[Raised], told: Sequence[Told], samples: Sequence[Sample]) -> list[str]:
    places: dict[str, list[Told]] = defaultdict(list)
    for record in told:
        places[record.alert_id].append(record)
    return [
        f"{new.alert_id} at {new.place} {new.offset}"
        for sample in samples
        for new in raised
        if new.offset < sample.committed.get(new.place, 0)
        and not any(
            record.offset < sample.ends.get(record.place, 0) for record in places[new.alert_id]
        )
    ]


def _turned_back(samples: Sequence[Sample]) -> Iterable[str]:
    for earlier, later in pairwise(samples):
        for place, offset in earlier.committed.items():
            if later.committed.get(place, 0) < offset:
                yield f"{place} from {offset} to {later.committed.get(place, 0)}"


def _name(term: Term) -> str:
    return " ".join(term)

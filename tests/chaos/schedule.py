"""What goes wrong in a run, and when: decided by the seed before the run begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A kind of fault; `tests.chaos.faults` does them."""

    KILL = "worker killed"
    KILL_ALL = "all workers killed at once"
    GAP = "worker killed in a gap between two steps"
    STATE_DELETED = "worker killed, its state deleted"
    STATE_DAMAGED = "worker killed, its state damaged"
    BROKER_KILLED = "broker killed"
    BROKER_SLOW = "broker answers slowly"
    ZOMBIE = "worker frozen beyond its session"
    NETWORK_CUT = "network of a worker cut"
    DISK_FULL = "disk of a worker full"
    CLOCK = "clock of a worker moved"
    ALERTS_REFUSED = "alerts topic refuses writes"
    ROLLING_RESTART = "rolling restart"
    SCALE = "scaled 1, 4, 1"
    BACKFILL = "rule learns from the log anew"


@dataclass(frozen=True)
class Fault:
    """One fault to inject.

    Attributes:
        at: seconds after the start of the run.
        kind: what happens.
        seed: decides everything else about it: whom it hits, how, for how long.
    """

    at: float
    kind: Kind
    seed: int


_RARE: tuple[Kind, ...] = tuple(kind for kind in Kind if kind is not Kind.KILL)
_OFTEN = {Kind.BROKER_KILLED: 10, Kind.GAP: 12, Kind.ZOMBIE: 15}
"""Of so many faults one is of this kind, in long runs."""


def make_schedule(
    count: int, seconds: float, *, seed: int, only: frozenset[Kind] = frozenset()
) -> list[Fault]:
    """Return `count` faults at random moments, in order of time.

    Every kind comes if there is room, some more often in long runs, and the rest are kills; with
    `only`, just those kinds come, about equally often.
    """
    rng = random.Random(seed)
    kinds = _only(count, only) if only else _all_kinds(count, rng)
    moments = sorted(rng.uniform(0.0, seconds) for _ in range(count))
    rng.shuffle(kinds)
    return [
        Fault(at, kind, rng.randrange(1 << 32)) for at, kind in zip(moments, kinds, strict=True)
    ]


def _only(count: int, only: frozenset[Kind]) -> list[Kind]:
    chosen = sorted(only)
    return [chosen[n % len(chosen)] for n in range(count)]


def _all_kinds(count: int, rng: random.Random) -> list[Kind]:
    kinds: list[Kind] = list(_RARE)
    for kind, one_of in _OFTEN.items():
        kinds += [kind] * (count // one_of - 1)
    if len(kinds) > count:
        return rng.sample(kinds, count)
    return kinds + [Kind.KILL] * (count - len(kinds))

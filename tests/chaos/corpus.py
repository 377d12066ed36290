"""The events of a run, the rules that judge them, and which terms are new: known beforehand.

Two oracles have to agree before a run begins: what the generator put in, and what `firstseen
replay` finds in the file.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.events import START, encode, library_event
from tests.rules import rule_text

RULES = 8
"""Rules, so that the quota's topic, keyed by rule, has work on every partition."""
QUOTA_RULES = 2
"""So many of them have a quota that the run exceeds: their new terms go to both topics."""

Term = tuple[str, str, str]
"""Rule id, host, executable."""


@dataclass(frozen=True)
class Event:
    """One event; `new` is the term that it brings for the first time in the file."""

    value: bytes
    new: Term | None


@dataclass(frozen=True)
class Corpus:
    """The events of a run.

    Attributes:
        body: sent during the faults; brings every term for the first time, and some again.
        tail: sent after the faults; brings every term once more, and nothing new.
        terms: the oracle.
    """

    body: list[Event]
    tail: list[Event]
    terms: frozenset[Term]


def make_corpus(events: int, terms: int, *, seed: int) -> Corpus:
    """Return `events` events with `terms` new terms, the same for the same seed."""
    rng = random.Random(seed)
    oracle = [_term(number) for number in range(terms)]
    body_events = events - terms
    firsts = set(rng.sample(range(body_events), terms))
    unseen = iter(rng.sample(oracle, terms))
    seen: list[Term] = []
    body = []
    for number in range(body_events):
        if number in firsts:
            seen.append(next(unseen))
            body.append(Event(_match(seen[-1], number), seen[-1]))
        elif seen and rng.random() < 0.08:
            body.append(Event(_match(rng.choice(seen), number), None))
        else:
            body.append(Event(_noise(rng, number), None))
    # Hours later in the time of the events, so that no cache of lately sent terms skips them.
    later = 10 * body_events
    tail = [
        Event(_match(term, later + n), None) for n, term in enumerate(rng.sample(oracle, terms))
    ]
    return Corpus(body, tail, frozenset(oracle))


def write_rules(directory: Path) -> None:
    """Write the rules of a run."""
    directory.mkdir()
    for number in range(RULES):
        limited = number < QUOTA_RULES
        text = rule_text(
            rule_id(number),
            f'dll.name:"{_dll(number)}"',
            interval="10s" if limited else "5m",
            max_signals=10 if limited else 1_000_000,
            history="14d",
        )
        (directory / f"chaos_{number}.toml").write_text(text)


def rule_id(number: int) -> str:
    return f"c4a05000-0000-4000-8000-{number:012d}"


def replayed_terms(corpus: Corpus, rules: Path, file: Path) -> list[Term]:
    """Return what `firstseen replay` tells of the events, written to `file` first."""
    with file.open("wb") as lines:
        lines.writelines(event.value + b"\n" for event in (*corpus.body, *corpus.tail))
    command = [sys.executable, "-m", "pipeline", "replay", "--rules", str(rules), str(file)]
    done = subprocess.run(command, capture_output=True, check=True)
    return [term_of(json.loads(line)) for line in done.stdout.splitlines()]


def term_of(alert: dict[str, Any]) -> Term:
    """Return the new term that an alert tells."""
    terms = {term["field"]: term["value"] for term in alert["detection"]["new_terms"]}
    return alert["rule"]["id"], terms["host.id"], terms["process.executable"]


def _term(number: int) -> Term:
    rule, which = number % RULES, number // RULES
    return rule_id(rule), f"h{which % 40}", rf"C:\Users\ann\tool-{which}.exe"


def _dll(rule: int) -> str:
    return f"Chaos{rule}.Engine.dll"


def _match(term: Term, number: int) -> bytes:
    rule = int(term[0][-12:])
    return _encoded(number, host=term[1], executable=term[2], dll=_dll(rule))


def _noise(rng: random.Random, number: int) -> bytes:
    return _encoded(
        number,
        host=f"h{rng.randrange(40)}",
        dll=f"lib{rng.randrange(500)}.dll",
        executable=rf"C:\Windows\System32\app{rng.randrange(90)}.exe",
        signer="Microsoft Windows",
    )


def _encoded(number: int, **values: str) -> bytes:
    at = START + timedelta(milliseconds=100 * number)
    return encode(library_event(number=number, at=at, **values))  # type: ignore[arg-type]

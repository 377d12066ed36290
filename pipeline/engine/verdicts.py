"""Verdicts on events that read alike: what rules said of one holds for the other.

Nearly all events that a broad rule matches differ in what no rule reads: times, numbers of
processes, hashes. What the rules can depend on is taken of an event without decoding it, by code
that is not Python (`firstseen-native`), and what the rules said of the first such event is
remembered. A verdict depends on that and on nothing else, so it is exact; where rules read more
than known fields, or an event is written in an unusual way, nothing is remembered.

The time of an event is no part of it, and neither are texts of terms of which the rules ask little
(`pipeline.engine.alike`): they are told beside it, and the term tuples are made of them.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import Final

import msgspec

from pipeline.engine.alike import ApartTerm, Reader, Reading
from pipeline.engine.match import Disposition, Outcome
from pipeline.engine.seen import Seen
from pipeline.engine.wire import RuleRef
from pipeline.types import Term

_MAX_EVENT_BYTES: Final = 65_536
"""Of larger events nothing is remembered: their size limits what rules may take for them."""

_MAX_SIGHTINGS: Final = 16
"""Nor of events with more term tuples, or that more rules match: such a verdict weighs a lot, and
the event's size would limit what each of the rules may take."""

_MAX_CHARACTERS: Final = 1_024
"""Nor of events whose terms are longer together, but for those that are told apart."""

_MAX_ENTRIES: Final = 32_768
"""So many verdicts are kept; those not used for longest go first."""

_MAX_OUTCOMES: Final = 1_024
"""Verdicts that say the same share it, as long as there are no more different ones."""

_DIGEST_BYTES: Final = 16

_ROUND: Final = 2 * _MAX_ENTRIES
_RARE: Final = 16
_REST: Final = 4 * _ROUND
"""Where for a round less than one of sixteen events is known, the next ones are not looked up. A
round is longer than it takes to get to know all that can be remembered."""


class Sighted(msgspec.Struct, frozen=True, gc=False):
    """A term tuple that a rule saw.

    Attributes:
        rule: the rule.
        history: id of its history.
        window_ms: length of the history.
        terms: the tuple, without those terms that are made of another event's texts.
        apart: those of its terms that another event may have otherwise.
    """

    rule: RuleRef
    history: str
    window_ms: int
    terms: tuple[Term, ...]
    apart: tuple[ApartTerm, ...]

    def terms_in(self, texts: Sequence[str | None]) -> tuple[Term, ...]:
        """Return the tuple in an event that reads alike.

        Args:
            texts: what that one tells apart.
        """
        if not self.apart:
            return self.terms
        terms = list(self.terms)
        for place, number, term_of in self.apart:
            # Where there is no text, there was none in the first event either.
            text = texts[number]
            if text is not None and (term := term_of(text)) is not None:
                terms[place] = term
        return tuple(terms)


class Verdict(msgspec.Struct, frozen=True):
    """What rules said of an event.

    Attributes:
        outcome: what the match stage returned, without what was seen.
        sighted: what was seen.
    """

    outcome: Outcome
    sighted: tuple[Sighted, ...]


class Alike(msgspec.Struct, frozen=True):
    """What is known of an event before it is judged.

    Attributes:
        digest: stands for what the rules can depend on.
        reading: what was read of the event.
        verdict: what they said of an event that reads alike.
    """

    digest: bytes
    reading: Reading
    verdict: Verdict | None


class Verdicts:
    """Remembers verdicts. Not for two threads at once.

    Args:
        reader: reads of an event what the rules can depend on.
        max_bytes: what the decoder takes.
    """

    def __init__(self, reader: Reader, max_bytes: int = _MAX_EVENT_BYTES) -> None:
        self._reader = reader
        self._max_bytes = min(max_bytes, _MAX_EVENT_BYTES)
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._outcomes: dict[Outcome, Outcome] = {}
        # Nobody can find two events of one digest who does not know the key.
        self._key = secrets.token_bytes(blake2b.MAX_KEY_SIZE)
        self._asked = self._known = self._rest = 0

    def __len__(self) -> int:
        return len(self._verdicts)

    def look(self, event: bytes | None) -> Alike | None:
        """Return what is known of a record's value; None if nothing can be."""
        if self._rest:
            self._rest -= 1
            return None
        if event is None or len(event) > self._max_bytes:
            return None
        reading = self._reader.read(event)
        if reading is None:
            self._count(known=False)
            return None
        digest = blake2b(reading.alike, digest_size=_DIGEST_BYTES, key=self._key).digest()
        verdict = self._verdicts.get(digest)
        self._count(known=verdict is not None)
        if verdict is not None:
            self._verdicts.move_to_end(digest)
        return Alike(digest, reading, verdict)

    def learn(self, alike: Alike, outcome: Outcome) -> None:
        """Remember what was said of an event, if it holds for all that read alike."""
        if (
            outcome.error is not None
            or outcome.failures
            or outcome.new_terms  # alerts, each with its own event
            or outcome.documents != 1
            or outcome.disposition is Disposition.SKIPPED
            or max(len(outcome.seen), len(outcome.matches)) > _MAX_SIGHTINGS
        ):
            return
        sighted = tuple(self._sighted(seen, alike.reading.texts) for seen in outcome.seen)
        terms = chain.from_iterable(each.terms for each in sighted)
        if sum(len(term) for term in terms if type(term) is str) > _MAX_CHARACTERS:
            return
        self._verdicts[alike.digest] = Verdict(self._shared(outcome), sighted)
        if len(self._verdicts) > _MAX_ENTRIES:
            self._verdicts.popitem(last=False)

    def _sighted(self, seen: Seen, texts: Sequence[str | None]) -> Sighted:
        apart = self._reader.apart(seen.match.rule.id)
        terms = list(seen.terms)
        for place, number, _ in apart:
            if texts[number] is not None:
                terms[place] = ""
        return Sighted(
            rule=seen.match.rule,
            history=seen.match.history,
            window_ms=seen.match.window_ms,
            terms=tuple(terms),
            apart=apart,
        )

    def _shared(self, outcome: Outcome) -> Outcome:
        """Return what an outcome says of all events that read alike, as one object for many."""
        # Whether its time was usable is said of that event alone.
        said = msgspec.structs.replace(outcome, seen=(), future_capped=0, untimed=())
        if len(self._outcomes) >= _MAX_OUTCOMES:
            self._outcomes.clear()
        return self._outcomes.setdefault(said, said)

    def _count(self, *, known: bool) -> None:
        self._asked += 1
        self._known += known
        if self._asked == _ROUND:
            if self._known * _RARE < self._asked:
                self._rest = _REST
            self._asked = self._known = 0

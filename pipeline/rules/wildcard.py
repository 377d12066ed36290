r"""Elasticsearch's wildcard patterns: ``*`` any text, ``?`` one character, ``\`` an escape.

KQL's own patterns have only ``*``; these are for Kibana filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from pipeline.kql.patterns import StarPattern
from pipeline.kql.predicates import AsciiEqual, Equal, Other, Predicate, ascii_lower

_Segment: TypeAlias = list[str | None]
"""The characters between two stars; None is a ``?``."""


_LONGEST_SEARCH = 100
"""The maximum length of a piece between two stars that contains a ``?``. It is compared at every
position of a value, so its length is a factor in the time."""


# Estimated nanoseconds to test a value: for each piece of the pattern; and for each character of
# the value, per character of the longest piece with a `?`.
_PIECE = 200
_COMPARISON = 0.5


class WildcardRefused(ValueError):  # noqa: N818  (like `ValueRefused`, not a program error)
    """A pattern whose search would take too long."""


def compile_wildcard(pattern: str, *, caseless: bool = False) -> Predicate:
    """Return a test of whether a whole value fits the pattern.

    The pieces between the stars have a fixed length. So the leftmost fit of each is always right,
    and nothing has to be tried again. A piece without ``?`` is found in linear time. One with a
    ``?`` takes the length of the value times its own length, which is therefore limited.

    Args:
        pattern: the pattern.
        caseless: compare ASCII letters case-insensitively. Other letters are compared as they are,
            as with the ``case_insensitive`` parameter of Elasticsearch's wildcard query.

    Raises:
        WildcardRefused: more than 100 characters between two stars, one of them a ``?``.
    """
    segments = _segments(ascii_lower(pattern) if caseless else pattern)
    for inner in segments[1:-1]:
        if len(inner) > _LONGEST_SEARCH and None in inner:
            raise WildcardRefused(
                f"more than {_LONGEST_SEARCH} characters between two stars, with a `?` among them"
            )
    odd = [len(segment) for segment in segments if None in segment]
    texts = tuple("".join(filter(None, segment)) for segment in segments)
    if len(segments) == 1 and not odd:
        return AsciiEqual(texts[0]) if caseless else Equal(texts[0])
    if not odd and not caseless:
        return StarPattern(texts)
    fits = _whole(segments[0])
    if len(segments) > 1:
        fits = _between(segments[0], segments[1:-1], segments[-1])
    cost, cost_of_character = _PIECE * len(segments), _COMPARISON * max((1, *odd))
    if not caseless:
        return Other(fits, cost, cost_of_character)
    return Other(lambda value: fits(ascii_lower(value)), cost, cost_of_character)


def _segments(pattern: str) -> list[_Segment]:
    segments: list[_Segment] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            segments.append([])
        elif character == "?":
            segments[-1].append(None)
        elif character == "\\":
            # A lone backslash at the end stands for itself, as in Lucene.
            segments[-1].append(next(characters, "\\"))
        else:
            segments[-1].append(character)
    return segments


def _regex(segment: _Segment) -> re.Pattern[str]:
    """Compile a segment. The regex has no quantifiers, so a match has the segment's length."""
    text = "".join("." if part is None else re.escape(part) for part in segment)
    return re.compile(text, re.DOTALL)


def _whole(segment: _Segment) -> Callable[[str], bool]:
    regex = _regex(segment)
    return lambda value: regex.fullmatch(value) is not None


def _between(first: _Segment, inner: list[_Segment], last: _Segment) -> Callable[[str], bool]:
    start, end = _regex(first), _regex(last)
    searches = [_regex(segment).search for segment in inner if segment]
    shortest = len(first) + len(last)
    at_end = len(last)

    def fits(value: str) -> bool:
        if len(value) < shortest or start.match(value) is None:
            return False
        stop = len(value) - at_end
        if end.match(value, stop) is None:
            return False
        position = len(first)
        for search in searches:
            found = search(value, position, stop)
            if found is None:
                return False
            position = found.end()
        return True

    return fits

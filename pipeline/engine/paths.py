"""Reading a field of an event however the event spells it.

A field is a dotted path. An event may nest objects, use dotted keys, put arrays and arrays of
objects anywhere and mix all of it: as in Elasticsearch, all the values at a path are one bag. The
compiled matchers read with types; this is for the few fields that the engine itself needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.kql.fields import as_dict, scalar_reader
from pipeline.types import Event


def leaves(event: Event, path: str) -> list[Any]:
    """Return the values at a path; null is none, nor is an object."""
    found = scalar_reader(path)(as_dict(event))
    if found is None:
        return []
    return found if type(found) is list else [found]


def text(event: Event, path: str) -> str | None:
    """Return the one text at a path, or None when there is none, another type or several."""
    value = scalar_reader(path)(as_dict(event))
    return value if type(value) is str else None


class ManyLeaves:
    """Reads many fields of an event in one pass over it.

    Nearly all events nest their objects and hold scalars, and arrays of them, in these. Any other
    is read field by field.

    Args:
        paths: the fields.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple(paths)
        self._root: dict[str, _Step] = {}
        for path in self._paths:
            *above, last = path.split(".")
            steps = self._root
            for name in above:
                steps = steps.setdefault(name, _Step({})).below
            steps[last] = steps.get(last, _Step({}))._replace(path=path)

    def read(self, event: Event) -> Mapping[str, list[Any]]:
        """Return the `leaves` at each of the fields that has some."""
        found: dict[str, list[Any]] = {}
        if _gather(as_dict(event), self._root, found):
            return found
        return {path: values for path in self._paths if (values := leaves(event, path))}


class _Step(NamedTuple):
    """A key on the way to fields.

    Attributes:
        below: the next keys.
        path: the field that ends here, if one does.
    """

    below: dict[str, _Step]
    path: str | None = None


def _gather(here: Event, steps: Mapping[str, _Step], found: dict[str, list[Any]]) -> bool:
    """Gather what stands at fields; False if that may not be all of it."""
    for key, value in here.items():
        step = steps.get(key)
        if step is None:
            if "." in key and key.split(".", 1)[0] in steps:
                return False
            continue
        kind = type(value)
        if kind is dict:
            if step.below and not _gather(value, step.below, found):
                return False
        elif kind is list:
            if any(type(each) is dict or type(each) is list for each in value):
                return False
            several = [each for each in value if each is not None]
            if several and step.path is not None:
                found[step.path] = several
        elif step.path is not None and value is not None:
            found[step.path] = [value]
    return True
